"""Files that can't be read to their end, and a process that is left as it was."""

import csv
import zipfile
from pathlib import Path

import pytest

from gpt_classifier.errors import OptionError
from gpt_classifier.tables.opening import opened
from gpt_classifier.tables.text_rows import read_rows


def test_long_fields_are_read_without_changing_the_limit_of_others(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    path = tmp_path / "a.csv"
    path.write_text(f"a,b\n{'x' * (before + 1)},y\n")
    with opened(path, "utf-8") as source:
        columns, rows = read_rows(source, "csv", "a.csv")
        assert columns == ["a", "b"]
        assert csv.field_size_limit() == before
        assert [row.fields["b"] for row in rows] == ["y"]
        assert csv.field_size_limit() == before


@pytest.mark.parametrize("name", ["hex", "rot13", "utf-5"])
def test_what_is_no_encoding_of_text_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n")
    with pytest.raises(OptionError, match=f"encoding: expected an encoding of text .* but it is {name}"):
        opened(path, name).__enter__()


@pytest.mark.parametrize("kept", [0, 100_000])
def test_file_that_is_cut_while_it_is_read_is_told(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.txt"
    path.write_text("hello\n" * 50_000)
    with opened(path, "utf-8") as source:
        _, rows = read_rows(source, "txt", "a.txt")
        next(rows)
        with path.open("r+b") as file:
            file.truncate(kept)
        with pytest.raises(OptionError, match=r"path: expected a file that stays as it is .* 300,000 bytes"):
            list(rows)


def test_file_that_grows_while_it_is_read_is_read_on(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("hello\n")
    with opened(path, "utf-8") as source:
        _, rows = read_rows(source, "txt", "a.txt")
        with path.open("a") as file:
            file.write("you\n")
        assert [row.fields["text"] for row in rows] == ["hello", "you"]


def test_a_workbook_that_is_named_csv_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(OptionError, match=r"which begins like a zip archive or an Excel workbook. .* name it .xlsx"):
        opened(path, "utf-8").__enter__()
