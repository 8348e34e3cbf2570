"""Rows of files that are to be classified, read as they are asked for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpt_classifier.errors import OptionError, UserError
from gpt_classifier.tables import reading
from gpt_classifier.tables.rows import Row as TableRow
from gpt_classifier.tables.rows import expect_column
from gpt_classifier.tables.texts import text_of, why_no_text

ARGUMENTS = {
    "path": ("--input", ""),
    "text_column": ("--text-column", "Set {field} to one of these, and --encoding if they look wrong."),
    "encoding": ("--encoding", "Set {field} to what it is, often utf-8, utf-16, latin-1 or cp1252."),
    "sheet": ("--sheet", "Set {field} to one of these."),
    "quoting": ("--quoting", "Is a quotation mark left open? {field} none takes them as text."),
}
"""How the command calls what `tables.reading` names, and what fixes it."""


@dataclass
class Row:
    """One row of the input.

    Args:
        fields: what it holds, by column.
        text: what is to be classified.
        reason: why it can't be, or an empty string.
        size: characters of the whole row.
    """

    fields: dict[str, Any]
    text: str
    reason: str = ""
    size: int = 0

    def __post_init__(self) -> None:
        self.reason = self.reason or why_no_text(self.text)


def inputs(given: str | None) -> list[Path | None]:
    """The files that `--input` names; `None` is standard input.

    Raises:
        OptionError: there are none.
    """
    with as_arguments():
        return [None] if given in (None, "-") else [*reading.files_of(given)]


def input_kind(paths: Sequence[Path | None], given: str | None) -> str:
    """How the input is read, by the ending of its files unless it is given.

    Raises:
        UserError: the ending does not tell, or standard input can't be read so.
    """
    first = paths[0]
    with as_arguments():
        kind = given or (reading.kind_of(first) if first else "txt")
    if first is None and kind in reading.BINARY:
        raise UserError(f"--input: a .{kind} file can't be read from standard input. Give its path.")
    return kind


@contextmanager
def as_arguments() -> Iterator[None]:
    """Inside, errors of reading a table name the command's arguments and say what fixes them."""
    try:
        yield
    except OptionError as error:
        error.field, hint = ARGUMENTS.get(error.field, (error.field, ""))
        error.hint = hint or error.hint
        raise


@contextmanager
def opened_rows(
    paths: Sequence[Path | None], text_column: str, style: reading.Style, kind: str | None = None
) -> Iterator[tuple[list[str], Iterator[Row]]]:
    """The columns of the files of a table, and their rows, read as they are asked for.

    Args:
        paths: of the files; `None` is standard input.
        text_column: the column with the texts.
        style: how they are written.
        kind: how they are read; `None` for what their endings say.

    Raises:
        OptionError: there is no such column, or a file can't be read, or not to its end.
    """
    style = replace(style, keep_bytes=True)
    with as_arguments(), reading.opened_table(paths, style, [text_column], kind) as rows:
        column = "text"
        if input_kind(paths, kind) != "txt":
            column = text_column
        elif text_column != column:
            raise UserError(
                f"--text-column: {rows.name} is read as a text a line, without columns. Set --input-format to csv, tsv "
                f"or jsonl if it has some, or leave --text-column out."
            )
        if rows.columns:
            expect_column("text_column", column, rows.columns, rows.name)
        yield rows.columns, (with_text(row, column) for row in rows)


def with_text(row: TableRow, text_column: str) -> Row:
    """A row with the text of one of its columns, or why there is none."""
    text, reason = text_of(row.fields, text_column)
    return Row(row.fields, "" if row.reason else text, row.reason or reason, row.size)
