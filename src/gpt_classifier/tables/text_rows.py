"""Rows of text files, as they are read: CSV, JSON, JSON lines, and lines of text."""

import csv
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import IO, Any

from gpt_classifier.errors import OptionError
from gpt_classifier.tables.json_rows import json_line, read_json
from gpt_classifier.tables.rows import LONGEST_FIELD, TOO_MANY_FIELDS, Row, lines_of

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}


def read_rows(
    source: IO[str],
    kind: str,
    name: str,
    separator: str | None = None,
    quoting: str = "minimal",
    wanted: Iterable[str] = (),
) -> tuple[list[str], Iterator[Row]]:
    """The columns of a text file and its rows, read as they are asked for; of `json` all at once.

    Args:
        source: opened with `newline=""`.
        kind: `csv` or `tsv` for a table with a header; `json` for a list of objects, or an object of columns; `jsonl`
            or `txt`, a line a text.
        name: of the file, for messages.
        separator: between the columns of a table, a character or one of the names in `SEPARATORS`; `None` for a comma
            (`csv`) or a tab (`tsv`), unless only another one of those makes the wanted columns.
        quoting: of a table: `minimal`, or `none` where quotation marks are text.
        wanted: names of columns.

    Returns:
        Names of columns; none of `jsonl`, of which each row has keys of its own. And the rows: empty lines of a table
        with several columns are none, but those of the other kinds are.

    Raises:
        OptionError: it is no such file, two columns have one name, or, while rows are read, it can't be read on.
    """
    if kind == "txt":
        return ["text"], (Row({"text": line}, size=len(line)) for line in lines_of(source, name))
    if kind == "jsonl":
        return [], (json_line(line) for line in lines_of(source, name))
    if kind == "json":
        return read_json(source, name, wanted)
    return _read_table(source, name, separator, "\t" if kind == "tsv" else ",", quoting, wanted)


def _find_separator(header: str, wanted: Iterable[str], usual: str) -> str:
    """What separates the columns of a table: the usual separator, unless only another one makes the wanted columns.

    Where none makes all of them, it is the one that makes most of them, then most columns: an error lists those.
    """
    missed = []
    for separator in (usual, *SEPARATORS.values()):
        with suppress(csv.Error):  # a name that is too long
            columns = set(next(csv.reader([header], delimiter=separator), []))
            if set(wanted) <= columns:
                return separator
            missed.append((len(columns.intersection(wanted)), len(columns), separator))
    return max(missed, key=lambda made: made[:2], default=(0, 0, usual))[2]


def _read_table(
    source: IO[str], name: str, separator: str | None, usual: str, quoting: str, wanted: Iterable[str]
) -> tuple[list[str], Iterator[Row]]:
    style: dict[str, Any] = {"quoting": csv.QUOTE_NONE} if quoting == "none" else {"strict": True}
    lines = iter(source)
    header = next(lines, "")
    separator = SEPARATORS.get(separator, separator) if separator else _find_separator(header, wanted, usual)
    try:
        reader = csv.reader(chain([header], lines), delimiter=separator, **style)
    except (TypeError, ValueError) as error:
        raise OptionError("separator", "one character", repr(separator)) from error
    found = _guarded(reader, name, quoting)
    columns = next(found, [])
    if not columns:
        raise OptionError("path", f"a table with columns separated by {separator!r}", f"{name}, which has no header")

    def rows() -> Iterator[Row]:
        width = len(columns)
        for values in found:
            if width > 1 and (not values or (len(values) == 1 and values[0] and not values[0].strip())):
                continue  # an empty line between rows; of one column it is a row with an empty text
            fields = dict(zip(columns, values or [""], strict=False))
            reason = ""
            if len(values) > width:
                reason = f"{TOO_MANY_FIELDS}: {values[width:]}"
            yield Row(fields, reason, sum(map(len, values)))

    return columns, rows()


def _guarded(reader: Any, name: str, quoting: str) -> Iterator[list[str]]:
    try:
        yield from _long_rows(reader)
    except csv.Error as error:
        place = f"before line {reader.line_num} ({error})"
        if quoting == "none":
            raise OptionError("path", "a table that can be read", f"{name}, which can't be {place}") from error
        raise OptionError(
            "quoting",
            "none, or a file where quotation marks quote whole fields",
            f"minimal, and {name} has a quotation mark that does not quote a whole field, {place}",
        ) from error


def _long_rows(reader: Any) -> Iterator[list[str]]:
    """The rows of a `csv.reader`, with fields of up to `LONGEST_FIELD` characters.

    The module's own limit, `csv.field_size_limit`, is one for the whole process: it is set while a row is read, and
    set back.
    """
    while True:
        before = csv.field_size_limit(LONGEST_FIELD)
        try:
            row = next(reader)
        except StopIteration:
            return
        finally:
            csv.field_size_limit(before)
        yield row
