"""Files of rows, read one by one with all their columns, whatever they are written as.

Training reads its tables here, and prediction its input. What can't be read at all is an `OptionError` that names
`path`, `encoding`, `separator`, `quoting` or `sheet`; a row that is none of its table is a `Row` with a reason.
"""

import glob
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from gpt_classifier.errors import OptionError
from gpt_classifier.tables.excel import read_excel
from gpt_classifier.tables.opening import name_of, opened
from gpt_classifier.tables.parquet import MANY_ROWS, read_parquet
from gpt_classifier.tables.rows import EMPTY_LINE, Row, expect_own_names
from gpt_classifier.tables.text_rows import read_rows

KINDS = {
    "csv": "csv",
    "tsv": "tsv",
    "txt": "txt",
    "json": "json",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "parquet": "parquet",
    "xlsx": "xlsx",
    "xlsm": "xlsx",
}
"""How files are read, by their ending."""

ENDINGS = ".csv, .tsv, .txt, .json, .jsonl, .ndjson (each also with .gz), .parquet or .xlsx"
BINARY = ("parquet", "xlsx")
"""Kinds of files that can't come from standard input."""


@dataclass(frozen=True)
class Style:
    """How a file is written, as far as it does not tell.

    Args:
        separator: between the columns of a text file, a character or its name; `None` to find it.
        encoding: of a text file.
        quoting: of a text file: `minimal` understands quoted fields, `none` takes quotation marks for text.
        sheet: of a workbook; `None` for the first.
        keep_bytes: take bytes that the encoding does not know as lone surrogates, instead of refusing the file.
    """

    separator: str | None = None
    encoding: str = "utf-8"
    quoting: str = "minimal"
    sheet: str | None = None
    keep_bytes: bool = False


def ending_of(path: Path) -> str:
    """A file's ending in lower case without a dot; of a compressed file that before `.gz`."""
    if path.suffix.lower() == ".gz":
        path = path.with_suffix("")
    return path.suffix.lower().removeprefix(".")


def kind_of(path: Path) -> str:
    """How a file is read, by its ending.

    Raises:
        OptionError: of `path`: the ending does not tell.
    """
    ending = ending_of(path)
    if ending not in KINDS:
        hint = "Rename the file by what it holds." if ending != "xls" else "Save it as .xlsx."
        found = f"{path}, which has {f'the ending .{ending}' if ending else 'no ending'}"
        raise OptionError("path", f"a file ending in {ENDINGS}", found, hint)
    return KINDS[ending]


def files_of(given: str | PathLike[str]) -> list[Path]:
    """The files that a path names: one, or those that fit a pattern such as `reviews/*.csv`, in order of their names.

    `~` is the user's own folder, `**` any folders, and a file that is there under the very name is no pattern.

    Raises:
        OptionError: of `path`: there are none.
    """
    path = Path(given).expanduser()
    if path.is_dir():
        hint = f"Set {{field}}='{path / '*.csv'}' for all CSV files in it."
        raise OptionError("path", "a file of texts", f"{path}, which is a folder", hint)
    if path.exists():
        return [path]
    if not set("*?[") & set(str(path)):
        raise OptionError("path", "a file of texts", f"{path}, and there is no file {path}")
    found = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
    if not found:
        raise OptionError("path", "files of texts", f"{path}, and there are no files that fit it")
    return found


class Rows:
    """The rows of a table in one file, or in several with the same columns, read as they are asked for.

    Args:
        columns: names of columns; none where each row has keys of its own.
        rows: of the first file.
        paths: of all files; `None` is standard input.
        open_file: opens one, as columns and rows.
        typed: whether values have types, as not in tables of text.
    """

    def __init__(
        self,
        columns: list[str],
        rows: Iterator[Row],
        paths: Sequence[Path | None],
        open_file: Callable[[Path | None], AbstractContextManager[tuple[list[str], Iterator[Row]]]],
        typed: bool,
    ) -> None:
        self.columns = columns
        self.typed = typed
        self.paths = paths
        self._rows = rows
        self._open = open_file
        self._starts = [0]  # of each file that was opened, the number of its first row

    @property
    def name(self) -> str:
        """How messages call the files."""
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        return name_of(self.paths[0]) + more

    def place(self, number: int) -> str:
        """How messages call a row that was read, by its number from 0."""
        if len(self.paths) == 1:
            return f"data row {number + 1}"
        file = bisect_right(self._starts, number) - 1
        return f"data row {number - self._starts[file] + 1} of {self.paths[file]}"

    def __iter__(self) -> Iterator[Row]:
        number = 0
        for row in self._rows:
            number += 1
            yield row
        for path in self.paths[1:]:
            with self._open(path) as (columns, rows):
                self._expect_same(columns, path)
                self._starts.append(number)
                for row in rows:
                    number += 1
                    yield row

    def _expect_same(self, columns: list[str], path: Path | None) -> None:
        if set(columns) != set(self.columns):
            missing = [f"no {column!r}" for column in self.columns if column not in columns]
            added = [f"also {column!r}" for column in columns if column not in self.columns]
            raise OptionError(
                "path",
                f"files with the columns of {name_of(self.paths[0])}",
                f"{name_of(path)}, which has {', '.join((missing + added)[:5])}",
            )


@contextmanager
def opened_table(
    paths: Sequence[Path | None],
    style: Style = Style(),
    wanted: Sequence[str] = (),
    kind: str | None = None,
    training: bool = False,
) -> Iterator[Rows]:
    """The rows of files of one table.

    Args:
        paths: of files, at least one; `None` is standard input.
        style: how they are written.
        wanted: columns that are asked for, by which separators and orientations are found.
        kind: one of `KINDS`, how to read them; `None` for what the ending of each says.
        training: leave empty lines of JSON lines out, take several columns without a name, as spreadsheets write them,
            and a `.txt` file as a table, instead of a text a line.

    Raises:
        OptionError: a file can't be read as what it is, or two columns of it have one name.
        UserError: reading it needs an extra.
    """

    @contextmanager
    def open_file(path: Path | None) -> Iterator[tuple[list[str], Iterator[Row]]]:
        how = kind_here(path)
        with ExitStack() as stack:
            if how == "parquet":
                assert path is not None
                columns, rows = read_parquet(path, *((wanted, MANY_ROWS) if training else ()))
            elif how == "xlsx":
                assert path is not None
                columns, rows = read_excel(path, style.sheet)
            else:
                source = stack.enter_context(opened(path, style.encoding, style.keep_bytes))
                columns, rows = read_rows(source, how, name_of(path), style.separator, style.quoting, wanted)
            expect_own_names((column for column in columns if column or not training), name_of(path))
            yield columns, (row for row in rows if row.reason != EMPTY_LINE) if training else rows

    def kind_here(path: Path | None) -> str:
        found = kind or (kind_of(path) if path else "txt")
        return "tsv" if training and found == "txt" else found

    typed = any(kind_here(path) not in ("csv", "tsv") for path in paths)
    with open_file(paths[0]) as (columns, rows):
        yield Rows(columns, rows, paths, open_file, typed)
