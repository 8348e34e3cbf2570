"""Texts without labels in files."""

import logging
from dataclasses import dataclass
from os import PathLike

from gpt_classifier.errors import OptionError
from gpt_classifier.tables.labelled import HINTS
from gpt_classifier.tables.reading import Rows, Style, files_of, kind_of, opened_table
from gpt_classifier.tables.rows import expect_column
from gpt_classifier.tables.texts import text_of
from gpt_classifier.tables.usable import Found

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UnlabelledFiles:
    """A column of texts, in one file or in several with the same columns; a `.txt` file has a text a line.

    Args:
        path: of the file, or a pattern of several (`reading.files_of`).
        text_column: the column of the texts; a `.txt` file has none.
        style: how the files are written.
        drop_incomplete: leave out rows without a text, with a warning, instead of refusing them. Empty lines of a
            `.txt` file are no rows.
    """

    path: str | PathLike[str]
    text_column: str
    style: Style
    drop_incomplete: bool

    def read(self) -> Found:
        """The texts, under the role `text`, and the numbers of their rows.

        Raises:
            OptionError: a file, its column or a row is not as expected, or there are no texts.
            UserError: reading a file needs an extra.
        """
        try:
            paths = files_of(self.path)
            lines = kind_of(paths[0]) == "txt"
            column = "text" if lines else self.text_column
            with opened_table(paths, self.style, [column], training=not lines) as rows:
                if rows.columns:
                    expect_column("text_column", column, rows.columns, rows.name)
                found = _find(rows, column, lines)
            self._expect_usable(found, rows)
        except OptionError as error:
            error.hint = error.hint or HINTS.get(error.field, "")
            raise
        return found

    def _expect_usable(self, found: Found, rows: Rows) -> None:
        told = f"{rows.name}, where {found.told(rows.place)}" if found.unusable else f"{rows.name}, which has no rows"
        if not found.numbers:
            raise OptionError("path", "a file with at least one text", told)
        if found.unusable and not self.drop_incomplete:
            hint = "Fix the file, or set {group}drop_incomplete=true to leave such rows out."
            raise OptionError("path", "a file with a text in every row", told, hint)
        if found.unusable:
            log.warning("%s: left out (drop_incomplete) because %s", rows.name, found.told(rows.place))


def _find(rows: Rows, column: str, lines: bool) -> Found:
    """The texts of a column; `lines` for a text a line, of which empty ones only separate."""
    found = Found({"text": []})
    for number, row in enumerate(rows):
        if lines and not row.fields[column].strip():
            continue
        found.total += 1
        text, reason = text_of(row.fields, column)
        if row.reason or reason:
            found.add_unusable(row.reason or reason, number)
            continue
        found.numbers.append(number)
        found.columns["text"].append(text)
    return found
