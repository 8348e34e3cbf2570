"""Texts with labels in files: which rows can be trained on. Nothing here takes long to import."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from gpt_classifier.errors import OptionError, expect_one_of
from gpt_classifier.tables.reading import Rows, Style, files_of, kind_of, opened_table
from gpt_classifier.tables.rows import expect_column
from gpt_classifier.tables.usable import Found, expect_classes, find_usable

Quoting = Literal["none", "minimal"]

HINTS = {
    "encoding": "Save the file as UTF-8, or set {field} to what it is, often latin-1, cp1252 or utf-16.",
    "quoting": "Set {field}=none if its quotation marks are text, or fix the file.",
    "sheet": "Set {field} to one of these.",
}
"""What fixes a file that can't be read, by the field of the error."""

MOST_OTHERS = 20_000_000  # characters of other columns up to which they are kept
ENOUGH = 1000  # rows of a look
AT_ONCE, LARGE = ("json", "xlsx"), 10_000_000  # kinds that are opened as a whole; bytes from which that takes seconds


def check_quoting(quoting: str) -> None:
    """Refuse what is none of the ways to take quotation marks.

    Raises:
        OptionError: of `quoting`.
    """
    expect_one_of("quoting", quoting, ("none", "minimal"))


@dataclass(frozen=True)
class LabelledFiles:
    """The table of a split, in one file or in several with the same columns.

    Args:
        path: of the file, or a pattern of several (`reading.files_of`).
        columns: the column of each role: `text`, `label`, perhaps `group` and `time`.
        style: how the files are written.
        drop_incomplete: leave out rows that can't be used, with a warning, instead of refusing them.
        prefix: of the options that name path, text column and label column, such as `val_`.
    """

    path: str | os.PathLike[str]
    columns: Mapping[str, str]
    style: Style
    drop_incomplete: bool
    prefix: str = ""

    def read(self) -> tuple[Found, Rows]:
        """The rows that can be trained on, and the table that they are of.

        Raises:
            OptionError: a file, a column or a row is not as expected.
            UserError: reading a file needs an extra.
        """
        with self._own_options():
            found, rows = self._find(most_others=MOST_OTHERS)
            return found.without_unusable(rows.name, "path", self.drop_incomplete, rows.place), rows

    def look(self) -> set[str]:
        """Refuse, before all of it is read, what `read` would refuse: a path, a column, or one of the first rows.

        A file that takes seconds, or that can be read only once, is not looked into.

        Returns:
            The classes of the rows that were read: two where there are two; none where nothing was read.

        Raises:
            OptionError: a file, a column or a row is not as expected.
            UserError: reading a file needs an extra.
        """
        with self._own_options():
            for path in files_of(self.path):
                if not path.is_file() or (kind_of(path) in AT_ONCE and path.stat().st_size > LARGE):
                    return set()
            found, rows = self._find(self._seen_enough)
            found.expect_usable(rows.name, "path", self.drop_incomplete, rows.place)
        return set(found.columns["label"])

    def _seen_enough(self, found: Found) -> bool:
        """Whether there were rows of two classes, and none that will be refused: all of those are counted and told."""
        labels = found.columns["label"]
        return len(labels) >= ENOUGH and labels[0] != labels[-1] and (self.drop_incomplete or not found.unusable)

    def _find(self, enough: Callable[[Found], bool] = lambda found: False, most_others: int = 0) -> tuple[Found, Rows]:
        with opened_table(files_of(self.path), self.style, list(self.columns.values()), training=True) as rows:
            if rows.columns:
                self._expect_columns(rows.columns, rows.name)
            found = find_usable(rows, self.columns, rows.typed, enough, most_others)
        if found.keys and not rows.columns:
            self._expect_columns(list(found.keys), rows.name)
        return found, rows

    def _expect_columns(self, columns: Sequence[str], name: str) -> None:
        for role, column in self.columns.items():
            expect_column(f"{role}_column", column, columns, name)

    @contextmanager
    def _own_options(self) -> Iterator[None]:
        """Inside, errors name the options of these files and say what fixes them."""
        try:
            yield
        except OptionError as error:
            error.hint = error.hint or HINTS.get(error.field, "")
            if error.field in ("path", "text_column", "label_column"):
                error.field = self.prefix + error.field
            raise


class LabelledTable:
    """Texts and labels in files, told apart by their ending: CSV, TSV, JSON, JSON lines, Parquet and Excel.

    Values are used as they are in the file: a number is no text, and whole numbers keep all their digits. Rows without
    a text or a label, and those that are no row of their table, are refused, and counted by reason.

    Args:
        path: the file, or a pattern of several with the same columns, such as `reviews/*.csv`; split into train,
            validation and test as far as those are not given.
        text_column: its column of texts.
        label_column: its column of labels, strings or whole numbers, any number of classes. Other numbers and truth
            values are taken by how Python writes them.
        val_path: a file, or a pattern, with the validation set, taken as it is.
        test_path: the same with the test set.
        separator: between the columns of a text file, one character or its name; `None` for a comma, or a tab in a
            `.tsv` or `.txt` file, unless only another one makes the columns.
        encoding: of a text file.
        quoting: `minimal` understands quoted fields, `none` takes quotation marks for text.
        drop_incomplete: leave out rows that can't be used, with a warning, instead of refusing them.
        group_column: its column of what belongs together, such as a customer, for `split=grouped`; `None` for none.
        time_column: its column of numbers, dates or ISO 8601 strings, for `split=time`; `None` for none.
        sheet: of an Excel workbook; `None` for its first.
        val_text_column: of `val_path`; `None` for the same as in training.
        val_label_column: of `val_path`; `None` for the same.
        test_text_column: of `test_path`; `None` for the same.
        test_label_column: of `test_path`; `None` for the same.

    Raises:
        OptionError: an option does not fit.
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
        sheet: str | None = None,
        val_text_column: str | None = None,
        val_label_column: str | None = None,
        test_text_column: str | None = None,
        test_label_column: str | None = None,
    ) -> None:
        if path is None:
            raise OptionError("path", "a file of texts and labels", path, "Set {field}=FILE.")
        check_quoting(quoting)
        style = Style(separator, encoding, quoting, sheet)
        order = {"group": group_column, "time": time_column}
        self.parts: dict[str | None, LabelledFiles] = {}
        for split, given, text, label in (
            (None, path, text_column, label_column),
            ("val", val_path, val_text_column or text_column, val_label_column or label_column),
            ("test", test_path, test_text_column or text_column, test_label_column or label_column),
        ):
            prefix = f"{split}_" if split else ""
            if not isinstance(given, str | os.PathLike | None):
                raise OptionError(f"{prefix}path", "a path", given)
            if text == label:
                raise OptionError(f"{prefix}label_column", "another column than that of texts", repr(label))
            if given:
                columns = {"text": text, "label": label, **{role: name for role, name in order.items() if name}}
                self.parts[split] = LabelledFiles(given, columns, style, drop_incomplete, prefix)

    def look(self, classes: bool = True) -> None:
        """Refuse, before all of it is read, what training would refuse.

        Args:
            classes: whether one class alone is refused.

        Raises:
            UserError: a file, a column or one of the first rows is not as expected.
        """
        found = {split: files.look() for split, files in self.parts.items()}
        if classes and found[None]:
            expect_classes(found[None])
