"""Rows of a sheet of an Excel workbook."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt_classifier.errors import OptionError, UserError, first_line
from gpt_classifier.tables.opening import expect_plausible_size
from gpt_classifier.tables.rows import TOO_MANY_FIELDS, Row, size_of


def read_excel(path: Path, sheet: str | None = None) -> tuple[list[str], Iterator[Row]]:
    """The columns of a sheet, named by its first row, and its rows, with Python's values, read as they are asked for.

    A formula has the value that was computed when the file was saved. Rows without any value are none.

    Args:
        path: of an `.xlsx` file.
        sheet: its name; `None` for the first.

    Raises:
        OptionError: of `path`: it can't be read. Of `sheet`: there is none of that name.
        UserError: openpyxl is not installed.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise UserError('Reading Excel files needs the extra excel: pip install -e ".[excel]"') from error
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        expect_plausible_size(str(path), unpacked, path.stat().st_size)
        book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
    except OptionError:
        raise
    except Exception as error:  # a damaged file leads to a dozen kinds
        raise _not_excel(path, error) from error
    sheets = {found.title: found for found in book.worksheets}
    if sheet is not None and sheet not in sheets:
        raise OptionError("sheet", f"a sheet of {path} ({', '.join(sheets)})", repr(sheet))
    found = sheets[sheet] if sheet is not None else book.worksheets[0]
    found.reset_dimensions()  # which some programs write wrong
    values = _values(found, path)
    columns = ["" if name is None else str(name) for name in next(values, [])]
    while columns and not columns[-1]:
        columns.pop()
    if not columns:
        raise OptionError(
            "path", "a sheet with names of columns in its first row", f"{path}, where {found.title} has none"
        )

    def rows() -> Iterator[Row]:
        for cells in values:
            while cells and cells[-1] is None:
                cells.pop()
            if not cells:
                continue
            fields = dict(zip(columns, cells + [None] * (len(columns) - len(cells)), strict=False))
            reason = f"{TOO_MANY_FIELDS}: {cells[len(columns) :]}" if len(cells) > len(columns) else ""
            yield Row(fields, reason, size_of(cells))

    return columns, rows()


def _values(sheet: Any, path: Path) -> Iterator[list[Any]]:
    try:
        yield from map(list, sheet.iter_rows(values_only=True))
    except Exception as error:
        raise _not_excel(path, error) from error
    finally:
        sheet.parent.close()


def _not_excel(path: Path, error: Exception) -> OptionError:
    hint = "Save it again as .xlsx, or as CSV."
    return OptionError("path", "an Excel workbook (.xlsx)", f"{path}: {first_line(error)}", hint)
