"""A row of a table, and what a table must have."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from gpt_classifier.errors import OptionError

LONGEST_FIELD = 10_000_000  # characters: more is an unclosed quotation mark
EMPTY_LINE = "the line is empty"
TOO_MANY_FIELDS = "the row has more fields than the header"


@dataclass(slots=True)
class Row:
    """One row of a table.

    Args:
        fields: what it holds, by column, as far as it has them.
        reason: why it is no row of its table, or an empty string.
        size: its characters.
    """

    fields: dict[str, Any]
    reason: str = ""
    size: int = 0


def size_of(values: Iterable[Any]) -> int:
    """The characters of a row's values, about."""
    return sum(len(value if isinstance(value, str) else str(value)) for value in values)


def lines_of(source: IO[str], name: str) -> Iterator[str]:
    """The lines of a text file, without their ends.

    Raises:
        OptionError: of `path`: a line is too long to be one.
    """
    number = 0
    while line := source.readline(LONGEST_FIELD):
        number += 1
        if len(line) == LONGEST_FIELD:
            expected = f"a file with lines of fewer than {LONGEST_FIELD:,} characters"
            raise OptionError("path", expected, f"{name}, where line {number} has more")
        yield line.rstrip("\r\n")


def expect_own_names(columns: Iterable[str], name: str) -> None:
    """Refuse a table of which two columns have one name.

    Raises:
        OptionError: of `path`: they have.
    """
    seen: set[str] = set()
    for column in columns:
        if column in seen:
            raise OptionError("path", "a file whose columns have different names", f"{name}, with two named {column!r}")
        seen.add(column)


def expect_column(option: str, column: str, columns: Sequence[str], name: str) -> None:
    """Refuse a table without a column.

    Raises:
        OptionError: of `option`: there is none.
    """
    if column not in columns:
        shown = ", ".join(columns[:20]) + (", …" if len(columns) > 20 else "")
        raise OptionError(option, f"a column of {name} ({shown})", repr(column), "Set {field} to one of these.")
