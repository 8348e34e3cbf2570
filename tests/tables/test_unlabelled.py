"""Texts without labels, read from files of each kind."""

from pathlib import Path

import pytest

from gpt_classifier.errors import OptionError
from gpt_classifier.tables.reading import Style
from gpt_classifier.tables.unlabelled import UnlabelledFiles


def read(path: Path | str, column: str = "text", drop_incomplete: bool = False) -> tuple[list[str], list[int]]:
    found = UnlabelledFiles(path, column, Style(), drop_incomplete).read()
    return found.columns["text"], found.numbers


def test_a_txt_file_has_a_text_a_line_whatever_the_column_is_called(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text('one, "two\n\nthree\tfour\n  \n')
    assert read(tmp_path / "a.txt", "body") == (['one, "two', "three\tfour"], [0, 2])


def test_tables_need_no_column_but_that_of_texts(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,body\n1,one\n2,two\n")
    (tmp_path / "b.csv").write_text("id,body\n3,three\n")
    (tmp_path / "a.jsonl").write_text('{"body": "one"}\n\n{"body": "two"}\n')
    assert read(tmp_path / "[ab].csv", "body") == (["one", "two", "three"], [0, 1, 2])
    assert read(tmp_path / "a.jsonl", "body")[0] == ["one", "two"]


def test_rows_without_a_text_are_refused_or_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1,one\n2,\n3,three\n")
    with pytest.raises(
        OptionError, match=r"path: expected a file with a text in every row.*first in data row 2"
    ) as told:
        read(tmp_path / "a.csv")
    assert "drop_incomplete=true" in str(told.value)
    assert read(tmp_path / "a.csv", drop_incomplete=True) == (["one", "three"], [0, 2])


@pytest.mark.parametrize(("name", "content"), [("a.txt", "\n"), ("a.csv", "text\n"), ("b.csv", "text,id\n,1\n")])
def test_a_file_without_texts_is_refused(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(OptionError, match="path: expected a file with at least one text"):
        read(tmp_path / name, drop_incomplete=True)
