"""What a person decided about rows whose labels may be wrong: a table that `gpt-classifier find-label-errors` began."""

from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from typing import Any

from gpt_classifier.errors import OptionError
from gpt_classifier.tables.reading import Style, files_of, opened_table
from gpt_classifier.tables.rows import expect_column
from gpt_classifier.tables.texts import label_name, why_no_label

ACTIONS = ("keep", "relabel", "remove")
ROW, HASH, ACTION, SUGGESTED = COLUMNS = ("row", "hash", "action", "suggested")
HASHED = "sha256:"
"""How a hash begins in the table, so that no spreadsheet takes it for a number."""


@dataclass(frozen=True)
class Correction:
    """A row that is not kept as it is.

    Args:
        row: its number in the source, from 0.
        hash: of its text, the first 16 digits of the SHA-256.
        label: what it is to have; `None` to leave the row out.
    """

    row: int
    hash: str
    label: str | None


def read_corrections(path: str | PathLike[str]) -> list[Correction]:
    """The rows that are to be changed.

    Args:
        path: of the table, in any format that training reads: `row`, `hash`, `action` (`keep`, `relabel` or `remove`)
            and `suggested`, the label that `relabel` gives.

    Raises:
        OptionError: of `path`: it is no such table.
    """
    found: dict[int, Correction | None] = {}
    with opened_table(files_of(path), Style(), list(COLUMNS), training=True) as rows:
        for column in COLUMNS if rows.columns else ():
            expect_column("path", column, rows.columns, rows.name)
        for number, row in enumerate(rows):
            place = f"{path}, which has {{}} in {rows.place(number)}"
            number_of_row = _row_number(row.fields.get(ROW), place)
            one = _correction(number_of_row, row.fields, place)
            if found.setdefault(number_of_row, one) != one:
                raise OptionError("path", "one decision for each row", place.format(f"row {number_of_row} again"))
    return [one for one in found.values() if one is not None]


def _row_number(value: Any, place: str) -> int:
    try:
        number = float(value)
        if number != int(number) or number < 0:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        expected = "the number of a row of the messages, from 0, in the column row"
        raise OptionError("path", expected, place.format(repr(value))) from None
    return int(number)


def _correction(row: int, fields: dict[str, Any], place: str) -> Correction | None:
    action = str(fields.get(ACTION) or "").strip().lower()
    if action not in ACTIONS:
        raise OptionError("path", f"{_listed(ACTIONS)} in the column {ACTION}", place.format(repr(fields.get(ACTION))))
    text_hash = str(fields.get(HASH) or "").strip()
    if not text_hash.startswith(HASHED):
        expected = f"the hash of a text, {HASHED}…, in the column {HASH}"
        raise OptionError("path", expected, place.format(repr(fields.get(HASH))))
    if action == "keep":
        return None
    label = fields.get(SUGGESTED) if action == "relabel" else None
    if action == "relabel" and why_no_label(label):
        raise OptionError("path", f"a label in the column {SUGGESTED} of a row to relabel", place.format(repr(label)))
    return Correction(row, text_hash.removeprefix(HASHED), None if label is None else label_name(label))


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}"
