"""Rows of Parquet files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gpt_classifier.errors import OptionError, UserError, first_line
from gpt_classifier.tables.rows import Row, expect_own_names, size_of

PARQUET_ROWS, MANY_ROWS = 128, 2048  # held at a time: few, or where all are kept anyway
PARQUET_BUFFER = 2**20  # bytes


def read_parquet(
    path: Path, wanted: Sequence[str] | None = None, rows_at_once: int = PARQUET_ROWS
) -> tuple[list[str], Iterator[Row]]:
    """The columns of a Parquet file and its rows, with Python's values, read as they are asked for.

    A value that Python has no word for, such as a date after the year 9999, becomes a string that says so.

    Args:
        path: of the file.
        wanted: columns that rows have, beside others of plain values, no lists, objects or bytes; `None` for all.
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
    kinds = pyarrow.types
    large = (kinds.is_nested, kinds.is_binary, kinds.is_large_binary, kinds.is_fixed_size_binary)
    chosen = [
        field.name
        for field in file.schema_arrow
        if wanted is None or field.name in wanted or not any(is_large(field.type) for is_large in large)
    ]

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
                    yield Row(dict(zip(chosen, values, strict=True)), size=size_of(values))

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
