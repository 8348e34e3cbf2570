"""Rows that can be trained on, and those that can't, counted by reason."""

import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

from gpt_classifier.errors import OptionError, UserError
from gpt_classifier.tables.rows import TOO_MANY_FIELDS, Row
from gpt_classifier.tables.texts import label_name, text_of, why_no_label

log = logging.getLogger(__name__)

PLAIN = str | int | float | Decimal | date | time | timedelta
"""What is kept of other columns: no lists, objects or bytes."""


@dataclass
class Found:
    """Rows of a file that can be trained on, and those that can't.

    Args:
        columns: values of each role (`text`, `label`, …), as they are in the file but for labels, which are names.
        numbers: of these rows in the file, from 0.
        whole_numbers: whether all labels are whole numbers.
        keys: names of the file's columns, in the order in which rows have them.
        total: number of rows.
        unusable: by reason, how many rows and the number of the first.
        others: values of the other columns, as far as they are plain, by column; none where these are too many.
    """

    columns: dict[str, list[Any]]
    numbers: list[int] = field(default_factory=list)
    whole_numbers: bool = True
    keys: dict[str, None] = field(default_factory=dict)
    total: int = 0
    unusable: dict[str, tuple[int, int]] = field(default_factory=dict)
    others: dict[str, list[Any]] = field(default_factory=dict)
    _room: int = 0

    def keep_others(self, characters: int) -> None:
        """Keep the values of other columns too, up to that many characters in all."""
        self._room = characters

    def add_others(self, row: Row, used: Collection[str]) -> None:
        """Keep what else a row has that can be trained on, as long as there is room.

        Args:
            row: the last of them.
            used: columns of roles.
        """
        if not self._room:
            return
        before = len(self.numbers) - 1
        for column, value in row.fields.items():
            if column and column not in used and isinstance(value, PLAIN):
                values = self.others.setdefault(column, [])
                values.extend([None] * (before - len(values)))
                values.append(value)
                self._room -= len(str(value))
        if self._room <= 0:
            log.info("columns %s are not kept: they are too large", ", ".join(self.others))
            self._room = 0
            self.others.clear()

    def fill_others(self) -> None:
        """Give the other columns a missing value for each row at the end that has none."""
        for values in self.others.values():
            values.extend([None] * (len(self.numbers) - len(values)))

    def without_unusable(
        self, name: str, option: str, drop: bool, place: Callable[[int], str] = lambda number: f"data row {number + 1}"
    ) -> "Found":
        """The rows that can be trained on, with a warning about those that can't; as `expect_usable` takes and raises.

        Raises:
            OptionError: there are such rows and `drop` is false, or no row is left.
        """
        self.expect_usable(name, option, drop, place)
        if self.unusable:
            log.warning("%s: left out (drop_incomplete) because %s", name, self.told(place))
        return self

    def expect_usable(self, name: str, option: str, drop: bool, place: Callable[[int], str]) -> None:
        """Refuse rows that can't be trained on.

        Args:
            name: of the file, for messages.
            option: of the file, for messages.
            drop: go on without the rows that can't.
            place: how messages call a row, by its number from 0.

        Raises:
            OptionError: there are such rows and `drop` is false, or no row is left.
        """
        told = self.told(place)
        if self.unusable and not drop:
            hint = "Fix the file, or, for a table of your own, set {group}drop_incomplete=true to leave such rows out."
            if TOO_MANY_FIELDS in self.unusable:
                hint += " {group}separator and {group}quoting (none, minimal) say how it is written."
            raise OptionError(option, "a file with a text and a label in every row", f"{name}, where {told}", hint)
        if not self.numbers:
            found = f"{name}, where {told}" if self.unusable else f"{name}, which has no rows"
            raise OptionError(option, "a file with at least one text and its label", found)

    def add_unusable(self, reason: str, number: int) -> None:
        """Count a row that can't be used: why, and its number."""
        kind = reason.partition(":")[0]
        count, first = self.unusable.get(kind, (0, number))
        self.unusable[kind] = (count + 1, first)

    def told(self, place: Callable[[int], str]) -> str:
        """How many rows can't be used, and why; `place` as of `expect_usable`."""
        reasons = "; ".join(
            f"{reason} ({count}, the first in {place(first)})" for reason, (count, first) in self.unusable.items()
        )
        return f"{self.total - len(self.numbers)} of {self.total} rows can't be used: {reasons}"


def expect_classes(names: Collection[str]) -> None:
    """Refuse messages of one class.

    Args:
        names: of the classes, at least one.

    Raises:
        UserError: there is only one.
    """
    if len(names) < 2:
        raise UserError(
            f"A classifier needs at least two classes, but every message has the label {next(iter(names))!r}. "
            f"Do the labels come from the right column?"
        )


def find_usable(
    rows: Iterable[Row],
    columns: Mapping[str, str],
    typed: bool = True,
    enough: Callable[[Found], bool] = lambda found: False,
    most_others: int = 0,
) -> Found:
    """Read rows, and tell those that can be trained on from those that can't.

    Args:
        rows: of a file.
        columns: the column of each role; those of the roles `text` and `label` decide.
        typed: whether a number in the file is one; `False` for tables of text, where what is written like a whole
            number is one, `2.0` too.
        enough: whether to read no further, asked after each row that can be trained on.
        most_others: characters of other columns up to which these are kept.
    """
    found = Found({role: [] for role in columns})
    found.keep_others(most_others)
    used = set(columns.values())
    known: dict[object, tuple[str, str, bool]] = {}
    for number, row in enumerate(rows):
        found.total += 1
        fields, reason, name = row.fields, row.reason, ""
        if not reason:
            if not fields.keys() <= found.keys.keys():
                found.keys |= dict.fromkeys(fields)
            _, reason = text_of(fields, columns["text"])
        if not reason:
            name, reason, whole = _name_of(fields.get(columns["label"]), typed, known)
            found.whole_numbers &= whole or bool(reason)
        if reason:
            found.add_unusable(reason, number)
            continue
        found.numbers.append(number)
        for role, column in columns.items():
            found.columns[role].append(name if role == "label" else fields.get(column))
        found.add_others(row, used)
        if enough(found):
            break
    found.fill_others()
    return found


def _name_of(label: object, typed: bool, known: dict[object, tuple[str, str, bool]]) -> tuple[str, str, bool]:
    """A label's class name, why it is none, or an empty string, and whether it is a whole number.

    `known` keeps them for labels that are strings.
    """
    if isinstance(label, str) and label in known:
        return known[label]
    reason = why_no_label(label)
    name = "" if reason else label_name(label)
    whole = not isinstance(label, str | bool)
    if isinstance(label, str) and not typed:
        whole = WHOLE_NUMBER.fullmatch(name) is not None
        name = name.partition(".")[0] if whole else name
    whole = whole and WHOLE_NUMBER.fullmatch(name) is not None
    if isinstance(label, str):
        known[label] = (name, reason, whole)
    return name, reason, whole


WHOLE_NUMBER = re.compile(r"(0|-?[1-9][0-9]{0,17})(\.0+)?")
"""As programs write one, pandas with a fraction where a value of the column is missing; 007 is none."""
