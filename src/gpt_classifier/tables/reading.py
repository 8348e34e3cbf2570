"""Files of rows, read one by one with all their columns: CSV, TSV, JSON lines, Parquet, and lines of text.

Training reads its tables here, and prediction its input. What can't be read at all is an `OptionError` that names
`path`, `encoding`, `separator` or `quoting`; a row that is none of its table is a `Row` with a reason.
"""

import codecs
import csv
import io
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gpt_classifier.errors import OptionError, UserError, first_line

LONGEST_FIELD = 10_000_000  # characters: more is an unclosed quotation mark
DEEPEST = 100  # lists and objects inside one another in a line of JSON
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
EMPTY_LINE = "the line is empty"
TOO_MANY_FIELDS = "the row has more fields than the header"
PARQUET_ROWS, PARQUET_BUFFER = 128, 2**20  # of which a part is held at a time; bytes


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


class _Whole(io.BufferedReader):
    """A regular file that must not end before the size that it had when it was opened."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.path = path
        found = os.fstat(self.fileno())
        self.expected = found.st_size if stat.S_ISREG(found.st_mode) else 0

    def read1(self, size: int = -1, /) -> bytes:
        part = super().read1(size)
        if not part and self.expected and self.tell() < self.expected:
            raise OptionError(
                "path",
                f"a file that stays as it is while it is read, {self.expected:,} bytes",
                f"{self.path}, which ended after {self.tell():,} bytes",
            )
        return part


def name_of(path: Path | None) -> str:
    """How messages call a file, or standard input."""
    return str(path or "standard input")


def text_encoding(name: str) -> str:
    """Python's own name of an encoding.

    Raises:
        OptionError: of `encoding`: there is none of that name, or it encodes something other than text, as `hex` does.
    """
    try:
        "".encode(name)
        return codecs.lookup(name).name
    except (LookupError, TypeError, ValueError) as error:
        raise OptionError("encoding", "an encoding of text that Python knows by name, such as utf-8", name) from error


@contextmanager
def opened(path: Path | None, encoding: str, keep_bytes: bool = False) -> Iterator[IO[str]]:
    """A text file, without its byte order mark, for `read_rows`.

    Args:
        path: of the file; `None` is standard input.
        encoding: a name that Python knows.
        keep_bytes: take bytes that the encoding does not know as lone surrogates, instead of refusing the file.

    Raises:
        OptionError: of `encoding`: there is no such encoding, or the file is in another one. Of `path`: the file
            becomes shorter while it is read.
        OSError: it can't be opened.
    """
    name = text_encoding(encoding)
    source: Any = _Whole(path) if path else sys.stdin.buffer
    errors = "surrogateescape" if keep_bytes else "strict"
    with io.TextIOWrapper(source, "utf-8-sig" if name == "utf-8" else name, errors, newline="") as text:
        if name == "utf-8" and source.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            found = f"{encoding}, and it begins like utf-16"
            raise OptionError("encoding", f"the encoding of {name_of(path)}", found)
        try:
            yield text
        except UnicodeEncodeError:  # of what is written meanwhile
            raise
        except UnicodeError as error:
            raise OptionError("encoding", f"the encoding of {name_of(path)}", f"{encoding}: {error}") from error


def read_rows(
    source: IO[str], kind: str, name: str, separator: str = ",", quoting: str = "minimal"
) -> tuple[list[str], Iterator[Row]]:
    """The columns of a text file and its rows, read as they are asked for.

    Args:
        source: opened with `newline=""`.
        kind: `csv` for a table with a header, `jsonl` or `txt`, a line a text.
        name: of the file, for messages.
        separator: between the columns of a `csv`.
        quoting: of a `csv`: `minimal`, or `none` where quotation marks are text.

    Returns:
        Names of columns; none of `jsonl`, of which each row has keys of its own. And the rows: empty lines of a `csv`
        with several columns are none, but those of the other kinds are.

    Raises:
        OptionError: it is no such file, two columns have one name, or, while rows are read, it can't be read on.
    """
    if kind == "txt":
        return ["text"], (Row({"text": line}, size=len(line)) for line in _lines(source, name))
    if kind == "jsonl":
        return [], (_json_row(line) for line in _lines(source, name))
    return _read_table(source, name, separator, quoting)


def find_separator(path: Path, encoding: str, wanted: Iterable[str], usual: str) -> str:
    """What separates the columns of a table: the usual separator, unless only another one makes the wanted columns.

    Args:
        path: of the file.
        encoding: of it; whether it is right is seen when the file is read.
        wanted: names of columns.
        usual: for files of that ending.
    """
    with path.open(encoding="utf-8-sig" if text_encoding(encoding) == "utf-8" else encoding, errors="replace") as file:
        header = file.readline(LONGEST_FIELD)
    for separator in (usual, *SEPARATORS.values()):
        if set(wanted) <= set(next(csv.reader([header], delimiter=separator), [])):
            return separator
    return usual


def _lines(source: IO[str], name: str) -> Iterator[str]:
    number = 0
    while line := source.readline(LONGEST_FIELD):
        number += 1
        if len(line) == LONGEST_FIELD:
            expected = f"a file with lines of fewer than {LONGEST_FIELD:,} characters"
            raise OptionError("path", expected, f"{name}, where line {number} has more")
        yield line.rstrip("\r\n")


def _json_row(line: str) -> Row:
    if not line.strip():
        return Row({"line": line}, EMPTY_LINE, len(line))
    try:
        fields = json.loads(line)
        deep = line.count("[") + line.count("{") > DEEPEST and _is_deeper(fields, DEEPEST)
    except RecursionError:
        deep = True
    except ValueError as error:
        return Row({"line": line}, f"the line is not JSON: {first_line(error)}", len(line))
    if deep:
        return Row({"line": line}, f"the line has more than {DEEPEST} lists and objects inside one another", len(line))
    if not isinstance(fields, dict):
        return Row({"line": fields}, "the line is not a JSON object", len(line))
    return Row(fields, size=len(line))


def _is_deeper(value: Any, depth: int) -> bool:
    """Whether lists and objects are inside one another more than `depth` times."""
    level = [value]
    for _ in range(depth + 1):
        level = [item for item in level if isinstance(item, dict | list)]
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return bool(level)


def _read_table(source: IO[str], name: str, separator: str, quoting: str) -> tuple[list[str], Iterator[Row]]:
    style: dict[str, Any] = {"quoting": csv.QUOTE_NONE} if quoting == "none" else {"strict": True}
    try:
        reader = csv.reader(source, delimiter=separator, **style)
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


def read_parquet(
    path: Path, wanted: Sequence[str] | None = None, rows_at_once: int = PARQUET_ROWS
) -> tuple[list[str], Iterator[Row]]:
    """The columns of a Parquet file and its rows, with Python's values, read as they are asked for.

    A value that Python has no word for, such as a date after the year 9999, becomes a string that says so.

    Args:
        path: of the file.
        wanted: columns that rows have; `None` for all.
        rows_at_once: that are Python values at a time: more are faster, and take more memory.

    Raises:
        OptionError: of `path`: it can't be read, or two columns have one name.
        UserError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UserError('Reading Parquet needs the extra of that name: pip install -e ".[parquet]"') from error
    damage = (OSError, ValueError, OverflowError, pyarrow.ArrowException)
    try:
        # a part of a column at a time, not all of a row group, which may be all of the file
        file = pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=PARQUET_BUFFER)
    except damage as error:
        raise OptionError("path", "a Parquet file", f"{path}: {first_line(error)}") from error
    columns = file.schema_arrow.names
    expect_own_names(columns, str(path))
    chosen = [column for column in columns if wanted is None or column in wanted]

    def rows() -> Iterator[Row]:
        with file:
            batches = file.iter_batches(batch_size=rows_at_once, columns=wanted and chosen)
            while True:
                try:
                    batch = next(batches)
                except StopIteration:
                    return
                except damage as error:
                    raise OptionError("path", "a whole Parquet file", f"{path}: {first_line(error)}") from error
                for values in zip(*(_python_values(batch[column]) for column in chosen), strict=True):
                    size = sum(len(value if isinstance(value, str) else str(value)) for value in values)
                    yield Row(dict(zip(chosen, values, strict=True)), size=size)

    return columns, rows()


def _python_values(column: Any) -> list[Any]:
    """The values of a pyarrow array."""
    try:
        return column.to_pylist()
    except (ValueError, OverflowError):  # one of them is none that Python can hold
        return [_python_value(column, place) for place in range(len(column))]


def _python_value(column: Any, place: int) -> Any:
    try:
        return column[place].as_py()
    except UnicodeDecodeError as error:
        return error.object.decode("utf-8", "surrogateescape") if isinstance(error.object, bytes) else ""
    except (ValueError, OverflowError):
        return " ".join(column.slice(place, 1).to_string(indent=0).split())[1:-1].strip()
