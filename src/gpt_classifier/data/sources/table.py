"""Tables of the user's own: CSV, TSV, JSON lines or Parquet."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from gpt_classifier.data.sources.messages import Messages, in_order
from gpt_classifier.errors import OptionError, expect_one_of
from gpt_classifier.tables.reading import (
    EMPTY_LINE,
    SEPARATORS,
    Row,
    expect_column,
    expect_own_names,
    find_separator,
    opened,
    read_parquet,
    read_rows,
)
from gpt_classifier.tables.texts import label_name, why_no_label
from gpt_classifier.tables.usable import Found, find_usable

Quoting = Literal["none", "minimal"]

HINTS = {
    "encoding": "Save the file as UTF-8, or set {field} to what it is, often latin-1, cp1252 or utf-16.",
    "quoting": "Set {field}=none if its quotation marks are text, or fix the file.",
}
"""What fixes a file that can't be read, by the field of the error."""


def check_quoting(quoting: str) -> None:
    """Refuse what is none of the ways to take quotation marks.

    Raises:
        OptionError: of `quoting`.
    """
    expect_one_of("quoting", quoting, ("none", "minimal"))


class Table:
    """Texts and labels in a CSV, TSV, JSONL or Parquet file, told apart by the file's ending.

    Values are used as they are in the file: a number is no text, and whole numbers keep all their digits. Rows without
    a text or a label, and those that are no row of their table, are refused, and counted by reason.

    Args:
        path: the file; split into train, validation and test as far as those are not given.
        text_column: its column of texts.
        label_column: its column of labels, strings or whole numbers, any number of classes. Other numbers and truth
            values are taken by how Python writes them.
        val_path: a file of the same form with the validation set, taken as it is.
        test_path: a file of the same form with the test set, taken as it is.
        separator: between the columns of a text file, one character; `None` for a comma, or a tab in a `.tsv` or `.txt`
            file.
        encoding: of a text file.
        quoting: `minimal` understands quoted fields, `none` takes quotation marks for text.
        drop_incomplete: leave out rows that can't be used, with a warning, instead of refusing them.
        group_column: its column of what belongs together, such as a customer, for `split=grouped`; `None` for none.
        time_column: its column of numbers, dates or ISO 8601 strings, for `split=time`; `None` for none.

    Raises:
        UserError: on `load`, when a file, a column or a value is not as expected.
    """

    def __init__(
        self,
        path: str | None,
        text_column: str,
        label_column: str,
        val_path: str | None = None,
        test_path: str | None = None,
        separator: str | None = None,
        encoding: str = "utf-8",
        quoting: Quoting = "minimal",
        drop_incomplete: bool = False,
        group_column: str | None = None,
        time_column: str | None = None,
    ) -> None:
        if path is None:
            raise OptionError("path", "a file of texts and labels", path, "Set {field}=FILE.")
        check_quoting(quoting)
        for option, given in {"path": path, "val_path": val_path, "test_path": test_path}.items():
            if not isinstance(given, str | os.PathLike | None):
                raise OptionError(option, "a path", given)
        if text_column == label_column:
            raise OptionError("label_column", "another column than that of texts", repr(label_column))
        self.paths = {None: path, "val": val_path, "test": test_path}
        columns = {"text": text_column, "label": label_column, "group": group_column, "time": time_column}
        self.columns = {role: column for role, column in columns.items() if column is not None}
        self.separator = separator
        self.encoding = encoding
        self.quoting = quoting
        self.drop_incomplete = drop_incomplete

    def prepare(self) -> None:
        pass

    def load(self) -> Messages:
        parts = {split: self._load_file(Path(path).expanduser(), split) for split, path in self.paths.items() if path}
        class_names = in_order(parts[None]["label"].unique())
        for split, part in parts.items():
            unknown = sorted(set(part["label"]) - set(class_names))
            if unknown:
                raise OptionError(
                    f"{split}_path",
                    f"a file with the labels of the training file ({', '.join(class_names[:10])})",
                    f"{self.paths[split]}, where {unknown[0]!r} is a label too",
                )
        return Messages(pd.concat(parts.values(), ignore_index=True), class_names)

    def _load_file(self, path: Path, split: str | None) -> pd.DataFrame:
        option = f"{split}_path" if split else "path"
        if not path.is_file():
            raise OptionError(option, "a file of texts and labels", f"{path}, and there is no file {path}")
        with _hints(option), self._rows(path) as (columns, rows):
            if columns:
                self._expect_columns(columns, path)
            found = find_usable(rows, self.columns)
        if found.keys:
            self._expect_columns(columns or list(found.keys), path)
        found.without_unusable(str(path), option, self.drop_incomplete)
        frame = pd.DataFrame(
            {"label": found.columns["label"], "text": found.columns["text"], "row": found.numbers}
        ).assign(split=split)
        return self._with_order(frame, found, path)

    def _expect_columns(self, columns: list[str], path: Path) -> None:
        for role, column in self.columns.items():
            expect_column(f"{role}_column", column, columns, str(path))

    @contextmanager
    def _rows(self, path: Path) -> Iterator[tuple[list[str], Iterable[Row]]]:
        """The columns of a file, none where each row has its own, and its rows."""
        match path.suffix.lower():
            case ".csv" | ".tsv" | ".txt" as ending:
                separator = SEPARATORS.get(self.separator or "", self.separator) or find_separator(
                    path, self.encoding, self.columns.values(), "," if ending == ".csv" else "\t"
                )
                with opened(path, self.encoding) as source:
                    columns, rows = read_rows(source, "csv", str(path), separator, self.quoting)
                    # spreadsheets write empty columns without a name at the end
                    expect_own_names((column for column in columns if column), str(path))
                    yield columns, rows
            case ".jsonl" | ".ndjson":
                with opened(path, self.encoding) as source:
                    _, rows = read_rows(source, "jsonl", str(path))
                    yield [], (row for row in rows if row.reason != EMPTY_LINE)
            case ".parquet":
                yield read_parquet(path, list(self.columns.values()), rows_at_once=2048)
            case ending:
                raise OptionError(
                    "path",
                    "a file ending in .csv, .tsv, .txt, .jsonl, .ndjson or .parquet",
                    f"{path}, which has {f'the ending {ending}' if ending else 'no ending'}",
                    "Rename the file by what it holds; {group}separator sets another separator than a comma (.csv) or "
                    "a tab (.tsv, .txt).",
                )

    def _with_order(self, frame: pd.DataFrame, found: Found, path: Path) -> pd.DataFrame:
        """Messages with their groups and times, as far as there are columns of them."""
        if "group" in self.columns:
            values = found.columns["group"]
            without = next((place for place, value in enumerate(values) if why_no_label(value)), None)
            if without is not None:
                raise OptionError(
                    "group_column",
                    "a column with a group in every row, a string or a whole number",
                    f"{self.columns['group']!r}, which has {_shown(values[without])} in data row "
                    f"{found.numbers[without] + 1} of {path}",
                )
            frame["group"] = [label_name(value) for value in values]
        if "time" in self.columns:
            values = found.columns["time"]
            parsed = _as_times(values)
            if parsed.isna().any():
                place = int(parsed.isna().to_numpy().argmax())
                raise OptionError(
                    "time_column",
                    "a column of numbers, dates or times as ISO 8601 writes them (2024-05-31 or 2024-05-31T18:30:00)",
                    f"{self.columns['time']!r}, which has {_shown(values[place])} in data row "
                    f"{found.numbers[place] + 1} of {path}",
                )
            frame["time"] = parsed
        return frame


@contextmanager
def _hints(option: str) -> Iterator[None]:
    """Inside, errors of reading a file name its option and say what fixes it."""
    try:
        yield
    except OptionError as error:
        error.hint = error.hint or HINTS.get(error.field, "")
        if error.field == "path":
            error.field = option
        raise


def _shown(value: Any) -> str:
    """A value as messages show it; of a long one, its beginning."""
    text = repr("" if value is None else value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _as_times(values: list[Any]) -> pd.Series:
    """Numbers, or else dates and times in UTC; missing where a value is neither."""
    column = pd.Series([value if isinstance(value, str | Real | date) else None for value in values])
    if not pd.api.types.is_datetime64_any_dtype(column):
        numbers = pd.to_numeric(column, errors="coerce")
        if numbers.notna().all():
            return numbers
    return pd.to_datetime(column, format="ISO8601", utc=True, errors="coerce")
