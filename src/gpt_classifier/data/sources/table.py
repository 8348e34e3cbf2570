"""Tables of the user's own."""

from datetime import date
from numbers import Real
from typing import Any

import pandas as pd

from gpt_classifier.data.sources.messages import EXTRA, Messages, in_order
from gpt_classifier.errors import OptionError
from gpt_classifier.tables.labelled import LabelledFiles, LabelledTable
from gpt_classifier.tables.reading import Rows
from gpt_classifier.tables.texts import label_name, why_no_label
from gpt_classifier.tables.usable import Found


class Table(LabelledTable):
    """A table of texts and labels as a source of messages.

    Raises:
        UserError: on `load`, when a file, a column or a value is not as expected.
    """

    def prepare(self) -> None:
        pass

    def load(self) -> Messages:
        tables = {split: files.read() for split, files in self.parts.items()}
        parts = {split: _frame(self.parts[split], split, *table) for split, table in tables.items()}
        class_names = in_order(parts[None]["label"].unique())
        for split, part in parts.items():
            expect_labels(part, class_names, f"{split}_path", str(self.parts[split].path))
        whole_numbers = all(found.whole_numbers for found, _ in tables.values())
        messages = pd.concat(parts.values(), ignore_index=True)
        unlabelled = tables[None][0].unlabelled
        return Messages(messages, class_names, whole_numbers=whole_numbers, unlabelled=unlabelled)


def expect_labels(part: pd.DataFrame, class_names: list[str], option: str, name: str) -> None:
    """Refuse validation or test messages of other classes than those that are trained on.

    Raises:
        OptionError: there are such.
    """
    unknown = sorted(set(part["label"]) - set(class_names))
    if unknown:
        raise OptionError(
            option,
            f"messages with the labels of training ({', '.join(class_names[:10])})",
            f"{name}, where {unknown[0]!r} is a label too",
        )


def frame_of(found: Found, split: str | None) -> pd.DataFrame:
    """The messages of a split, and other columns of their source."""
    columns = {"label": found.columns["label"], "text": found.columns["text"], "row": found.numbers}
    others = {EXTRA + name: pd.Series(values, dtype=object) for name, values in found.others.items()}
    return pd.DataFrame({**columns, **others}).assign(split=split)


def _frame(files: LabelledFiles, split: str | None, found: Found, rows: Rows) -> pd.DataFrame:
    """The messages of a split, with their groups and times as far as there are columns of them, and other columns."""
    frame = frame_of(found, split)
    if "group" in files.columns:
        values = found.columns["group"]
        without = [bool(why_no_label(value)) for value in values]
        _expect_all(without, "a group in every row, a string or a whole number", "group", files, found, rows)
        frame["group"] = [label_name(value) for value in values]
    if "time" in files.columns:
        frame["time"] = _as_times(found.columns["time"])
        expected = "numbers, dates or times as ISO 8601 writes them (2024-05-31 or 2024-05-31T18:30:00)"
        _expect_all(frame["time"].isna().tolist(), expected, "time", files, found, rows)
    return frame


def _expect_all(without: list[bool], expected: str, role: str, files: LabelledFiles, found: Found, rows: Rows) -> None:
    """Refuse a column in which a row has no value.

    Raises:
        OptionError: one has none.
    """
    if any(without):
        first = without.index(True)
        place = rows.place(found.numbers[first])
        place = place if len(rows.paths) > 1 else f"{place} of {rows.name}"
        value = _shown(found.columns[role][first])
        raise OptionError(
            f"{role}_column",
            f"a column {'with' if role == 'group' else 'of'} {expected}",
            f"{files.columns[role]!r}, which has {value} in {place}",
        )


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
