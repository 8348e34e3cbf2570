"""Texts without labels in files: every row of a table, every line of a text, or documents with lines between them."""

import lzma
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from gpt_classifier.errors import OptionError, first_line
from gpt_classifier.tables.opening import text_encoding
from gpt_classifier.tables.reading import Rows, Style, files_of, kind_of, opened_table
from gpt_classifier.tables.rows import Row, expect_column, lines_of
from gpt_classifier.tables.texts import text_of

SEPARATOR = "<|endoftext|>"
"""A line of a text file that separates documents."""


@dataclass(frozen=True)
class UnlabelledTexts:
    """Texts in files, told apart by their ending as tables of texts and labels are; `.txt` has a text a line.

    A `.txt` file, plain, `.gz` or `.xz`, in which a line is `<|endoftext|>` has a document between each two of these.
    Rows with an empty text are left out.

    Args:
        path: the file, or a pattern of several with the same columns, such as `reviews/*.csv`.
        text_column: the column of texts; a `.txt` file has none.
        separator: between the columns of a text file, one character or its name; `None` to find it.
        encoding: of a text file.
        quoting: `minimal` understands quoted fields, `none` takes quotation marks for text.
        sheet: of an Excel workbook; `None` for its first.
    """

    path: str
    text_column: str = "text"
    separator: str | None = None
    encoding: str = "utf-8"
    quoting: str = "minimal"
    sheet: str | None = None

    def read(self) -> list[str]:
        """The texts, in their order.

        Raises:
            OptionError: a file, a column or a row is not as expected, or there is no text.
            UserError: reading a file needs an extra.
        """
        return [text for _, text in self.numbered()]

    def numbered(self) -> list[tuple[int, str]]:
        """The texts with the numbers of their rows, lines or documents, from 0 through all files; raises as `read`."""
        paths = files_of(self.path)
        if any(path.suffix == ".xz" for path in paths):
            texts = list(_documents(map(self._unpacked, paths)))
        elif all(kind_of(path) == "txt" for path in paths):
            texts = list(_documents(map(self._lines, paths)))
        else:
            texts = self._of_table(paths)
        if not texts:
            raise OptionError("path", "a file with at least one text", f"{self.path}, which has none")
        return texts

    def _of_table(self, paths: list[Path]) -> list[tuple[int, str]]:
        with self._opened(paths) as rows:
            if rows.columns:
                expect_column("text_column", self.text_column, rows.columns, rows.name)
            return [(number, text) for number, row in enumerate(rows) if (text := self._text(row, rows, number))]

    def _text(self, row: Row, rows: Rows, number: int) -> str:
        """A row's text, or an empty string where it has none."""
        text, reason = text_of(row.fields, self.text_column)
        reason = row.reason or (reason if text.strip() or self._holds_another(row) else "")
        if reason:
            hint = "Fix the file, or say how it is written: {group}separator, {group}quoting (none, minimal)."
            found = f"{rows.name}, where {reason} ({rows.place(number)})"
            raise OptionError("path", "a file with a text in every row", found, hint)
        return text if text.strip() else ""

    def _holds_another(self, row: Row) -> bool:
        """Whether a row has something other than a text where the text should be."""
        value = row.fields.get(self.text_column)
        return value is not None and not isinstance(value, str)

    @contextmanager
    def _opened(self, paths: list[Path]) -> Iterator[Rows]:
        style = Style(self.separator, self.encoding, self.quoting, self.sheet)
        with opened_table([*paths], style, [self.text_column]) as rows:
            yield rows

    def _lines(self, path: Path) -> Iterator[str]:
        with self._opened([path]) as rows:
            for row in rows:
                yield row.fields["text"]

    def _unpacked(self, path: Path) -> Iterator[str]:
        try:
            with lzma.open(path, "rt", encoding=text_encoding(self.encoding)) as file:
                yield from lines_of(file, str(path))
        except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
            found = f"{path}, which can't be read as text ({first_line(error)})"
            raise OptionError("path", "a whole .xz file of text", found) from error


def _documents(files: Iterable[Iterable[str]]) -> Iterator[tuple[int, str]]:
    """The lines of each file, or, where lines `SEPARATOR` are among them, what is between these; numbered."""
    parts = chain.from_iterable(map(_parts, files))
    return ((number, part) for number, part in enumerate(parts) if part.strip())


def _parts(lines: Iterable[str]) -> list[str]:
    parts: list[list[str]] = [[]]
    for line in lines:
        if line == SEPARATOR:
            parts.append([])
        else:
            parts[-1].append(line)
    return parts[0] if len(parts) == 1 else ["\n".join(part).strip("\n") for part in parts]
