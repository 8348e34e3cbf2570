"""Every kind of file gives the rows that it holds, from one file or several, or says in a paragraph why it can't."""

import gzip
import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest

from gpt_classifier.errors import OptionError, UserError
from gpt_classifier.tables import opening
from gpt_classifier.tables.reading import Style, files_of, opened_table

ROWS = [{"id": 1, "text": 'a "quoted", one', "label": "x"}, {"id": 2, "text": "two\nlines, naïve", "label": "y"}]


def rows_of(*paths: Path, **style: Any) -> list[dict[str, Any]]:
    with opened_table(paths, Style(**style), ["text", "label"]) as rows:
        return [row.fields if not row.reason else {"reason": row.reason} for row in rows]


def sheet(path: Path, rows: list[list[Any]], *others: str) -> Path:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.title = "First"
    for row in rows:
        book.active.append(row)
    for name in others:
        book.create_sheet(name).append(["text", "label"])
        book[name].append(["of another sheet", name])
    book.save(path)
    return path


@pytest.mark.parametrize("orient", ["records", "columns", "index", "split", "table", "list", "lines", "one line"])
def test_json_is_read_in_every_orientation_that_can_be_told(tmp_path: Path, orient: str) -> None:
    path = tmp_path / "a.json"
    frame = pd.DataFrame(ROWS)
    if orient == "list":
        path.write_text(json.dumps(frame.to_dict("list"), indent=1))
    elif orient == "lines":
        frame.to_json(path, orient="records", lines=True)
    elif orient == "one line":
        path.write_text(json.dumps(ROWS[0]))
    else:
        frame.to_json(path, orient=orient)  # type: ignore[call-overload]
    found = [{name: row[name] for name in ("id", "text", "label")} for row in rows_of(path)]
    assert found == (ROWS[:1] if orient == "one line" else ROWS)


def test_json_objects_may_lack_columns_and_entries_that_are_none_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(
        json.dumps([{"text": "a"}, "b", {"label": "y"}, {"text": "d", "deep": json.loads("[" * 200 + "]" * 200)}])
    )
    with opened_table([path]) as rows:
        assert rows.columns == ["text", "label"]
        reasons = [row.reason for row in rows]
    assert reasons[0] == reasons[2] == ""
    assert "not a JSON object" in reasons[1]
    assert "more than 100 lists and objects" in reasons[3]


@pytest.mark.parametrize(
    "content", ["", "5", "{", '{"text": ["a", "b"], "label": ["x"]}', '{"text": ["a"], "label": "x"}', "[" * 100_000]
)
def test_json_that_holds_no_table_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(OptionError, match=r"path: expected JSON with a list of objects, .*a\.json: .* Such as"):
        rows_of(path)


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json"])
@pytest.mark.parametrize("called", ["a.{}.gz", "a.{}"])  # browsers unpack, or do not, and keep the name
def test_compressed_files_are_unpacked_whatever_they_are_called(tmp_path: Path, ending: str, called: str) -> None:
    plain, path = tmp_path / f"plain.{ending}", tmp_path / called.format(ending)
    frame = pd.DataFrame(ROWS)
    if ending in ("csv", "tsv"):
        frame.to_csv(plain, index=False, sep="," if ending == "csv" else "\t")
    else:
        frame.to_json(plain, orient="records", lines=ending == "jsonl")
    path.write_bytes(gzip.compress(plain.read_bytes()))
    assert rows_of(path) == rows_of(plain)
    assert len(rows_of(path)) == 2


@pytest.mark.parametrize("damage", ["cut", "changed", "header", "followed"])
def test_damaged_compressed_file_is_told(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.csv.gz"
    whole = gzip.compress(b"text,label\n" + b"".join(os.urandom(20).hex().encode() + b",x\n" for _ in range(2000)))
    path.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "changed": whole[:5000] + bytes(100) + whole[5100:],
            "header": whole[:2] + b"\xff" + whole[3:],
            "followed": whole + b"more",
        }[damage]
    )
    with pytest.raises(
        OptionError, match=r"path: expected a whole gzip file, .*a\.csv\.gz, which is broken off or dam"
    ):
        rows_of(path)


def test_file_that_unpacks_to_far_more_than_texts_do_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "MOST_UNPACKED", 100_000)
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"text,label\n" + b"aaaaaaaaaaaaaaa,b\n" * 100_000))
    with pytest.raises(OptionError, match=r"at most 100 times its own size, .*a\.csv\.gz, which holds at least"):
        rows_of(path)
    book = sheet(tmp_path / "a.xlsx", [["text", "label"], ["a", "x"]])
    with zipfile.ZipFile(book, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/more.xml", bytes(3_000_000))
    with pytest.raises(OptionError, match=r"at most 100 times its own size, .*a\.xlsx, which holds at least"):
        rows_of(book)


def test_sheet_gives_rows_with_types_and_no_empty_ones(tmp_path: Path) -> None:
    path = sheet(
        tmp_path / "a.xlsx",
        [["text", "label", "n", None], ["a", 5, 1.5], [None, None, None], ["b", 4.0], [], ["c", True, None, "more"]],
        "Second",
    )
    *rows, last = rows_of(path)
    assert rows == [{"text": "a", "label": 5, "n": 1.5}, {"text": "b", "label": 4, "n": None}]
    assert last == {"reason": "the row has more fields than the header: ['more']"}
    assert rows_of(path, sheet="Second") == [{"text": "of another sheet", "label": "Second"}]
    with pytest.raises(OptionError, match=r"sheet: expected a sheet of .*a\.xlsx \(First, Second\), but it is 'Third'"):
        rows_of(path, sheet="Third")


@pytest.mark.parametrize("damage", ["text", "cut", "other zip", "empty"])
def test_what_is_no_workbook_is_told(tmp_path: Path, damage: str) -> None:
    path = sheet(tmp_path / "a.xlsx", [["text", "label"], *([os.urandom(30).hex(), "x"] for _ in range(500))])
    if damage == "text":
        path.write_text("text,label\na,b\n")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:9000])
    elif damage == "empty":
        sheet(path, [])
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.csv", "text,label\na,b\n")
    with pytest.raises(OptionError, match=r"path: expected .*a\.xlsx"):
        rows_of(path)


@pytest.mark.parametrize(("module", "name"), [("openpyxl", "excel"), ("pyarrow.parquet", "parquet")])
def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / f"a.{'xlsx' if name == 'excel' else name}"
    path.touch()
    with pytest.raises(UserError, match=rf'pip install -e "\.\[{name}\]"'):
        rows_of(path)


def test_several_files_are_one_table_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("c", "a", "b"):
        (tmp_path / f"{name}.csv").write_text(f"text,label\n{name},1\n" if name != "b" else "label;text\n2;b\n3;b\n")
    (tmp_path / "d.csv").mkdir()
    paths = files_of(tmp_path / "*.csv")
    assert [path.name for path in paths] == ["a.csv", "b.csv", "c.csv"]
    with opened_table(paths, wanted=["text", "label"]) as rows:
        assert [(row.fields["text"], row.fields["label"]) for row in rows] == [
            ("a", "1"),
            ("b", "2"),
            ("b", "3"),
            ("c", "1"),
        ]
        assert [rows.place(number).split()[2] for number in range(4)] == ["1", "1", "2", "1"]
        assert rows.place(2).endswith("b.csv")


def test_file_with_other_columns_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,1\n")
    (tmp_path / "b.csv").write_text("body,label\nb,1\n")
    expected = r"files with the columns of .*a\.csv, but it is .*b\.csv, which has no 'text', also 'body'"
    with pytest.raises(OptionError, match=expected):
        rows_of(*files_of(str(tmp_path / "[ab].csv")))


def test_paths_begin_at_home_and_may_have_the_signs_of_a_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "a [1].csv"
    path.touch()
    assert files_of("~/a [1].csv") == [path]
    assert files_of("~/*.csv") == [path]
    for given, expected in (
        ("~/b.csv", "there is no file"),
        ("~/b*", "no files that fit"),
        ("~", r"a folder\. .*\*\.csv"),
    ):
        with pytest.raises(OptionError, match=expected):
            files_of(given)
