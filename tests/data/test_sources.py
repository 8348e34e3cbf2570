"""Files as people have them."""

import json
import logging
import math
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from gpt_classifier.data.sources import SampleSms, SmsSpam, Table, Texts, extra_columns
from gpt_classifier.errors import OptionError, UserError, option_group
from gpt_classifier.tables import labelled

ROWS = [("fine, I say", "good"), ('a "quoted" word', "bad"), ("two\nlines", "good"), ("NA", "bad"), ("naïve", "good")]


def write(path: Path, frame: pd.DataFrame) -> Path:
    match path.suffix:
        case ".csv":
            frame.to_csv(path, index=False)
        case ".tsv" | ".txt":
            frame.to_csv(path, index=False, sep="\t")
        case ".jsonl" | ".ndjson":
            frame.to_json(path, orient="records", lines=True)
        case ".json":
            frame.to_json(path)
        case ".gz":
            frame.to_csv(path, index=False)
        case ".xlsx":
            frame.to_excel(path, index=False)
        case ".parquet":
            frame.to_parquet(path)
    return path


@pytest.mark.parametrize(
    "ending", [".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet", ".csv.gz", ".xlsx"]
)
def test_every_format_gives_the_same_messages(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"reviews{ending}", pd.DataFrame(ROWS, columns=["body", "verdict"]))
    messages = Table(str(path), "body", "verdict").load()
    assert list(zip(messages.frame["text"], messages.frame["label"], strict=True)) == ROWS
    assert messages.class_names == ["bad", "good"]


@pytest.mark.parametrize("ending", [".csv", ".json", ".jsonl", ".parquet", ".xlsx"])
def test_whole_number_labels_become_names_in_the_order_of_their_values(tmp_path: Path, ending: str) -> None:
    frame = pd.DataFrame({"text": list("abcde"), "label": [10, 9, 1, 2, 10]})
    messages = Table(str(write(tmp_path / f"stars{ending}", frame)), "text", "label").load()
    assert messages.class_names == ["1", "2", "9", "10"]
    assert messages.frame["label"].tolist() == ["10", "9", "1", "2", "10"]


def test_whole_numbers_that_were_stored_as_floats_are_the_same_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "stars.parquet", pd.DataFrame({"text": list("abc"), "label": [1.0, 2.0, 1.0]}))
    assert Table(str(path), "text", "label").load().class_names == ["1", "2"]


@pytest.mark.parametrize(
    ("labels", "names", "whole"),
    [
        (["1.0", "2.0", "10"], ["1", "2", "10"], True),  # pandas writes 1.0 beside a missing value
        (["-1", "0", "0.0"], ["-1", "0"], True),
        (["1.0", "1.5", "2"], ["1", "1.5", "2"], False),
        (["1", "none"], ["1", "none"], False),
        (["007", "8"], ["007", "8"], False),
        (["1e3", "2"], ["1e3", "2"], False),
    ],
)
def test_labels_of_a_table_of_text_are_whole_numbers_if_all_are_written_so(
    tmp_path: Path, labels: list[str], names: list[str], whole: bool
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"t,{label}\n" for label in labels))
    messages = Table(str(path), "text", "label").load()
    assert (messages.class_names, messages.whole_numbers) == (names, whole)


@pytest.mark.parametrize(
    ("labels", "whole"),
    [([1, 2.0], True), (["1", "2"], False), ([True, False], False), ([1.5, 2], False), ([1, "a"], False)],
)
def test_labels_with_types_are_whole_numbers_if_all_are(tmp_path: Path, labels: list, whole: bool) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"text": "t", "label": label}) for label in labels))
    messages = Table(str(path), "text", "label").load()
    assert messages.whole_numbers is whole
    assert "1.0" not in messages.class_names


@pytest.mark.parametrize("ending", [".csv", ".json", ".jsonl", ".parquet", ".xlsx"])
def test_other_columns_come_with_the_messages(tmp_path: Path, ending: str) -> None:
    frame = pd.DataFrame({"id": ["p7", "p8"], "text": ["a", "b"], "split": ["x", "y"], "label": ["good", "bad"]})
    messages = Table(str(write(tmp_path / f"a{ending}", frame)), "text", "label").load().frame
    assert messages["extra.id"].tolist() == ["p7", "p8"]
    assert messages["extra.split"].tolist() == ["x", "y"]
    assert messages["split"].tolist() == [None, None]
    assert extra_columns(messages) == ["extra.id", "extra.split"]


def test_other_columns_keep_their_rows_and_lists_or_much_text_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"text": "a", "label": 1}, {"text": "", "label": 1, "id": 0}, {"text": "b", "label": 2, "id": 5, "v": [1]}]
    path.write_text("\n".join(map(json.dumps, [*rows, {"text": "c", "label": 2}])))
    source = Table(str(path), "text", "label", drop_incomplete=True)
    frame = source.load().frame
    assert extra_columns(frame) == ["extra.id"]
    assert frame["extra.id"].tolist() == [None, 5, None]
    vectors = pa.array([[0.5] * 8] * 2)
    pyarrow.parquet.write_table(pa.table({"text": ["a", "b"], "label": [1, 2], "v": vectors}), tmp_path / "a.parquet")
    assert extra_columns(Table(str(tmp_path / "a.parquet"), "text", "label").load().frame) == []
    monkeypatch.setattr(labelled, "MOST_OTHERS", 1)
    assert extra_columns(source.load().frame) == []


def test_classes_may_be_called_none_or_null(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.csv", pd.DataFrame({"text": list("abc"), "label": ["none", "null", "NA"]}))
    assert Table(str(path), "text", "label").load().class_names == ["NA", "none", "null"]


@pytest.mark.parametrize("dtype", ["Int64", "string"])
def test_missing_values_of_nullable_columns_are_told(tmp_path: Path, dtype: str) -> None:
    labels = pd.array([1, None, 2] if dtype == "Int64" else ["a", None, "b"], dtype=dtype)  # type: ignore[call-overload]
    path = write(tmp_path / "reviews.parquet", pd.DataFrame({"text": list("abc"), "label": labels}))
    with pytest.raises(UserError, match=r"1 of 3 rows .*: the label is empty \(1, the first in data row 2\)"):
        Table(str(path), "text", "label").load()


def in_parquet(path: Path, **columns: pa.Array) -> Table:
    pyarrow.parquet.write_table(pa.table(columns), path)
    return Table(str(path), "text", "label")


@pytest.mark.parametrize(
    ("texts", "labels", "expected"),
    [
        (pa.array([b"a", b"b"]), pa.array(["x", "y"]), r"2 of 2 .* the text is binary, not a string \(2, .* row 1\)"),
        (
            pa.array([{"body": "a"}, None]),
            pa.array(["x", "y"]),
            r"an object with keys.*; the text is empty \(1",
        ),
        (pa.array([["a"], ["b"]]), pa.array(["x", "y"]), "the text is a list, not a string"),
        (pa.array([1, 2]), pa.array(["x", "y"]), "the text is a number, not a string"),
        (pa.array(["a", "b"]), pa.array([["x"], ["y"]]), "the label is a list, not a string or a whole number"),
        (pa.array(["a", "b"]), pa.array([b"x", b"y"]), "the label is binary, not a string or a whole number"),
        (pa.array(["a", "b"]), pa.array([date(2026, 1, 1)] * 2), "the label is a date or time"),
        (pa.array(["a", "b"]), pa.array([1.0, math.inf]), r"the label is infinite \(1, the first in data row 2"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.type),
)
def test_parquet_columns_of_other_types_are_refused(
    tmp_path: Path, texts: pa.Array, labels: pa.Array, expected: str
) -> None:
    with pytest.raises(OptionError, match=expected):
        in_parquet(tmp_path / "a.parquet", text=texts, label=labels).load()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": 5, "label": "x"}', "the text is a number, not a string"),
        ('{"text": ["a"], "label": "x"}', "the text is a list, not a string"),
        ('{"text": "a", "label": ["x"]}', "the label is a list, not a string or a whole number"),
        ('{"text": "a", "label": {"x": 1}}', "the label is an object with keys, not a string or a whole number"),
        ('{"text": "a\\ud800", "label": "x"}', "the text holds bytes or code points that are no characters"),
        ('{"text": "a", "label": "x\\ud800"}', "the label holds bytes or code points that are no characters"),
        ('{"label": "x"}', "there is no text"),
        ('{"text": "a"}', "the label is empty"),
        ('["a", "x"]', "the line is not a JSON object"),
        ('{"text": "a", "lab', "the line is not JSON"),
        (f'{{"text": "a", "label": "x", "deep": {"[" * 900}{"]" * 900}}}', "more than 100 lists and objects"),
    ],
    ids=lambda text: text[:40],
)
def test_lines_of_json_that_are_no_message_are_refused_or_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: str, reason: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "a", "label": "x"}}\n\n{line}\n{{"text": "b", "label": 4.0}}\n')
    with pytest.raises(OptionError, match=rf"a\.jsonl, where 1 of 3 rows .*{reason}.*the first in data row 2\)"):
        Table(str(path), "text", "label").load()
    messages = Table(str(path), "text", "label", drop_incomplete=True).load()
    assert messages.frame["text"].tolist() == ["a", "b"]
    assert messages.frame["row"].tolist() == [0, 2]
    assert messages.class_names == ["4", "x"]
    assert reason in caplog.text


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_whole_number_labels_keep_all_digits_beside_a_missing_one(tmp_path: Path, ending: str) -> None:
    big = [2**53, 2**53 + 1, None]
    path = tmp_path / f"a{ending}"
    if ending == ".parquet":
        in_parquet(path, text=pa.array(list("abc")), label=pa.array(big))
    else:
        path.write_text("\n".join(json.dumps({"text": text, "label": n}) for text, n in zip("abc", big, strict=True)))
    messages = Table(str(path), "text", "label", drop_incomplete=True).load()
    assert messages.class_names == ["9007199254740992", "9007199254740993"]


def test_other_columns_do_not_matter(tmp_path: Path) -> None:
    beyond = pa.array([2**62], pa.int64()).cast(pa.timestamp("us"))
    source = in_parquet(tmp_path / "a.parquet", text=pa.array(["a"]), label=pa.array([True]), when=beyond)
    assert source.load().class_names == ["True"]
    path = tmp_path / "a.csv"
    path.write_text("text,label,,\na,x,,\nb,y,,\n")  # as spreadsheets write empty columns
    assert Table(str(path), "text", "label").load().frame["text"].tolist() == ["a", "b"]


def test_file_of_which_no_row_can_be_used_is_refused_even_if_such_rows_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n,a\n")
    with pytest.raises(OptionError, match=r"at least one text and its label, .* the text is empty \(1"):
        Table(str(path), "text", "label", drop_incomplete=True).load()


def test_lists_are_no_groups_and_no_times(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": "x", "who": ["p"], "when": [1]}\n')
    with pytest.raises(OptionError, match=r"group_column: .* which has \['p'\] in data row 1"):
        Table(str(path), "text", "label", group_column="who").load()
    with pytest.raises(OptionError, match=r"time_column: .* which has \[1\] in data row 1"):
        Table(str(path), "text", "label", time_column="when").load()


def test_given_validation_and_test_files_keep_their_place(tmp_path: Path) -> None:
    for name in ("train", "val", "test"):
        write(tmp_path / f"{name}.csv", pd.DataFrame({"text": [f"{name} 1", f"{name} 2"], "label": ["a", "b"]}))
    source = Table(
        str(tmp_path / "train.csv"),
        "text",
        "label",
        val_path=str(tmp_path / "val.csv"),
        test_path=str(tmp_path / "test.csv"),
    )
    frame = source.load().frame
    assert frame["split"].tolist() == [None, None, "val", "val", "test", "test"]


def test_columns_of_given_files_may_have_other_names(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", pd.DataFrame({"text": ["x", "y"], "label": ["a", "b"]}))
    val = write(tmp_path / "val.csv", pd.DataFrame({"body": ["v"], "label": ["a"]}))
    test = write(tmp_path / "test.jsonl", pd.DataFrame({"text": ["wrong"], "sms": ["t"], "class": ["b"]}))
    names = {"val_text_column": "body", "test_text_column": "sms", "test_label_column": "class"}
    frame = Table(str(train), "text", "label", str(val), str(test), **names).load().frame  # type: ignore[arg-type]
    assert frame["text"].tolist() == ["x", "y", "v", "t"]
    assert frame["label"].tolist() == ["a", "b", "a", "b"]
    with pytest.raises(OptionError, match=r"val_text_column: .* \(body, label\), .* Set val_text_column to one"):
        Table(str(train), "text", "label", str(val)).load()
    with pytest.raises(OptionError, match=r"test_label_column: expected another column than that of texts"):
        Table(str(train), "text", "label", test_path=str(test), test_label_column="text")


def test_row_that_can_not_be_used_is_told_by_its_file(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", pd.DataFrame({"text": ["x", "y"], "label": ["a", "b"], "who": ["p", "q"]}))
    (tmp_path / "b.csv").write_text("text,label,who\nz,a,p\n,b,p\nw,b,\n")
    with pytest.raises(OptionError, match=r"a\.csv and 1 more, where 1 of 5 .* the first in data row 2 of .*b\.csv\)"):
        Table(str(tmp_path / "*.csv"), "text", "label").load()
    source = Table(str(tmp_path / "*.csv"), "text", "label", drop_incomplete=True)
    assert source.load().frame["row"].tolist() == [0, 1, 2, 4]
    with pytest.raises(OptionError, match=r"group_column: .* which has '' in data row 3 of .*b\.csv\."):
        Table(str(tmp_path / "*.csv"), "text", "label", drop_incomplete=True, group_column="who").load()


def test_label_that_only_the_test_file_has_is_refused(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", pd.DataFrame({"text": ["x", "y"], "label": ["a", "b"]}))
    test = write(tmp_path / "test.csv", pd.DataFrame({"text": ["x", "y"], "label": ["a", "c"]}))
    with pytest.raises(
        UserError, match=r"test_path: expected .* labels of training \(a, b\), .* where 'c' is a label too"
    ):
        Table(str(train), "text", "label", test_path=str(test)).load()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "text,label\nhello,a\n  ,b\n",
            r"1 of 2 .* text is empty \(1, the first in data row 2\).*drop_incomplete",
        ),
        ("text,label\nhello,\nbye,b\n", r"1 of 2 rows .* the label is empty \(1, the first in data row 1\)"),
        ("text,label\nhello,nan\nbye,b\n", "the label is empty"),
        ("text,label\n", "has no rows"),
        ("", "expected a table with columns"),
        (
            "text,label\nhello, big,a\nbye,b\n",
            r"more fields than .* \(1, .* data row 1\).*separator and quot",
        ),
        (
            "text,label\nhello,a\nbye,b,c,d\n",
            r"more fields than .* \(1, .* data row 2\).*separator and quot",
        ),
        ("text,label\nhello,a\nbye\n", r"the label is empty \(1, the first in data row 2\)"),
        ("label,text\na,hello\nb\n", r"there is no text \(1, the first in data row 2\)"),
        (
            "text,label,text\nhello,a,b\n",
            r"path: expected .* columns have different names, .* two named 'text'",
        ),
        ("body,label\nhello,a\n", r"text_column: expected a column of .* \(body, label\), but it is 'text'"),
        ("text#label\nhello#a\n", r"expected a column of .* \(text#label\)"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=expected):
        Table(str(path), "text", "label").load()


def test_incomplete_rows_are_dropped_on_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "reviews.jsonl"
    rows = [{"text": "a", "label": "x"}, {"text": None, "label": "x"}, {"text": "c", "label": None}]
    path.write_text("\n".join(map(json.dumps, rows)))
    rows.append({"text": "d", "label": "y"})
    path.write_text("\n".join(map(json.dumps, rows)))
    messages = Table(str(path), "text", "label", drop_incomplete=True).load()
    assert messages.frame["text"].tolist() == ["a", "d"]
    assert messages.frame["row"].tolist() == [0, 3]  # as they are numbered in the file
    assert "2 of 4 rows can't be used: the text is empty (1, the first in data row 2); the label" in caplog.text


def test_other_encoding_is_told_and_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_bytes("text,label\ncafé,a\nthé,b\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"encoding: expected the encoding of .* but it is utf-8"):
        Table(str(path), "text", "label").load()
    frame = Table(str(path), "text", "label", encoding="latin-1").load().frame
    assert frame["text"].tolist() == ["café", "thé"]


def test_byte_order_mark_is_not_part_of_a_column(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\nhello,a\n", encoding="utf-8-sig")
    assert Table(str(path), "text", "label").load().frame["text"].tolist() == ["hello"]


def test_separator_and_quoting_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text('text;label\nhe said "no;a\nyes";b\n')
    messages = Table(str(path), "text", "label", separator=";", quoting="none").load()
    assert messages.frame["text"].tolist() == ['he said "no', 'yes"']


@pytest.mark.parametrize(
    "name", ["reviews.xlsx", "reviews.xls", "reviews.json", "reviews", "damaged.parquet", "damaged.jsonl"]
)
def test_unreadable_format_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("no table\n")
    with pytest.raises(UserError, match=r"^path: "):
        Table(str(tmp_path / name), "text", "label").load()


@pytest.mark.parametrize(
    "content", ['label\ttext\na\t"Yes, she said\nb\tno\na\tit "is"\n', 'label\ttext\na\tfine\nb\t"no\n']
)
def test_stray_quotation_marks_are_told_instead_of_swallowing_rows(tmp_path: Path, content: str) -> None:
    path = tmp_path / "reviews.tsv"
    path.write_text(content)
    with pytest.raises(UserError, match=r"quotation mark that does not quote a whole field.*quoting=none"):
        Table(str(path), "text", "label").load()
    assert len(Table(str(path), "text", "label", quoting="none").load().frame) == content.count("\n") - 1


def test_label_column_is_another_than_the_text_column() -> None:
    with pytest.raises(UserError, match=r"label_column: expected another column than that of texts, but it is 'text'"):
        Table("reviews.csv", "text", "text")


def test_missing_file_is_told() -> None:
    with pytest.raises(UserError, match=r"there is no file nowhere\.csv"):
        Table("nowhere.csv", "text", "label").load()
    with pytest.raises(UserError, match=r"Set path=FILE"):
        Table(None, "text", "label")


def test_error_names_the_option_as_the_caller_does(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("text,label\nhello,\n")
    with pytest.raises(OptionError, match="drop_incomplete=true") as error, option_group("data"):
        Table(str(path), "text", "label").load()
    assert str(error.value).startswith("data.path: expected a file with a text and a label in every row")
    assert "set data.drop_incomplete=true" in str(error.value)


def test_groups_and_times_come_with_the_messages(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("text,label,customer,sent\na,x,7,2024-05-31T18:30:00+02:00\nb,y,8,2024-05-31\n,y,8,never\n")
    source = Table(str(path), "text", "label", drop_incomplete=True, group_column="customer", time_column="sent")
    frame = source.load().frame
    assert frame["group"].tolist() == ["7", "8"]
    assert frame["time"].tolist() == [pd.Timestamp("2024-05-31 16:30", tz="UTC"), pd.Timestamp("2024-05-31", tz="UTC")]


@pytest.mark.parametrize(
    ("values", "oldest"),
    [
        (["10", "9", "1e3"], 1),
        ([3.5, -1, 2], 1),
        (["2024-01-02", "2023", "2024-01-02T00:00:01"], 1),
        (["2024-01-01T00:30:00+02:00", "2024-01-01", "2024-01-01 01:00"], 0),
        ([pd.Timestamp("2024-02-01"), pd.Timestamp("2024-01-01"), pd.Timestamp("2024-03-01")], 1),
        ([date(2024, 2, 1), date(2024, 1, 1), date(2024, 3, 1)], 1),
    ],
)
def test_times_are_numbers_dates_or_iso_strings(tmp_path: Path, values: list, oldest: int) -> None:
    path = write(tmp_path / "reviews.parquet", pd.DataFrame({"text": list("abc"), "label": list("xyx"), "t": values}))
    times = Table(str(path), "text", "label", time_column="t").load().frame["time"]
    assert times.argmin() == oldest


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {"time_column": "sent"},
            r"time_column: expected .*ISO 8601 .*but it is 'sent', which has 'soon' in data row 2",
        ),
        ({"group_column": "customer"}, r"group_column: expected .*every row, .* but it is 'customer', .* data row 1"),
        ({"group_column": "client"}, r"group_column: expected a column of .* \(text, label, customer, sent\)"),
    ],
)
def test_unusable_groups_and_times_are_told(tmp_path: Path, columns: dict[str, str], expected: str) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("text,label,customer,sent\na,x,,2024-05-31\nb,y,8,soon\n")
    with pytest.raises(OptionError, match=expected):
        Table(str(path), "text", "label", **columns).load()  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [list, tuple, np.array, pd.Series])
def test_texts_in_memory_are_taken_from_any_sequence(kind: Callable) -> None:
    messages = Texts(kind(["b", "a", "c"]), kind([10, 9, 10]), kind([1, 0.5, 2]), kind(["p", "q", "p"])).load()
    assert messages.class_names == ["9", "10"]
    assert messages.frame.to_dict("list") == {
        "text": ["b", "a", "c"],
        "label": ["10", "9", "10"],
        "weight": [1.0, 0.5, 2.0],
        "group": ["p", "q", "p"],
        "split": [None, None, None],
        "row": [0, 1, 2],
    }


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((["a", " "], ["x", "y"]), r"texts: expected str that are not empty, but it is ' ' in place 1"),
        ((["a", 3], ["x", "y"]), r"texts: .* 3 in place 1"),
        ((pd.DataFrame({"text": ["a", "b"]}), ["x", "y"]), r"texts: .* a DataFrame.*such as frame\['text'\]"),
        (({"a", "b"}, ["x", "y"]), r"texts: .* a set\."),
        ((["a\ud800", "b"], ["x", "y"]), r"texts: .* no characters"),
        ((["a", "b"], ["x", "x\ud800"]), r"labels: .* no characters"),
        ((["a", "b"], [["x"], ["y"]]), r"labels: .* the label is a list"),
        ((["a", "b"], None), r"labels: expected a list, .* but it is None"),
        (("ab", ["x", "y"]), r"texts: expected a list, .* but it is a str\. Put it into a list"),
        (([], []), r"texts: expected at least one text"),
        ((["a", "b"], ["x"]), r"labels: expected as many as there are texts, 2, but it is 1 values"),
        ((["a", "b"], ["x", None]), r"labels: expected a value for each text, but it is None in place 1"),
        ((["a", "b"], ["x", ""]), r"labels: expected labels that are not empty"),
        ((["a", "b"], ["x", "y"], [1]), r"weights: expected as many"),
        ((["a", "b"], ["x", "y"], [1, -1]), r"weights: expected numbers of at least 0, but it is -1 in place 1"),
        ((["a", "b"], ["x", "y"], [1, "much"]), r"weights: expected numbers of at least 0"),
        ((["a", "b"], ["x", "y"], None, [1]), r"groups: expected as many"),
    ],
)
def test_texts_in_memory_that_can_not_be_trained_on_are_refused(arguments: tuple, expected: str) -> None:
    with pytest.raises(OptionError, match=expected):
        Texts(*arguments)


URLS, SHA = ["http://127.0.0.1:9/none.zip"], "7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d"


@pytest.mark.parametrize(("quoting", "ham"), [("none", 4827), ("minimal", 4825)])
def test_real_collection_has_its_published_size(sms_file: Path, sms_zip: Path, quoting: str, ham: int) -> None:
    for path in (sms_file, sms_zip):
        messages = SmsSpam(str(path), "unused", URLS, SHA, quoting).load()  # type: ignore[arg-type]
        assert messages.frame["label"].value_counts().to_dict() == {"ham": ham, "spam": 747}
        assert messages.class_names == ["ham", "spam"]


def test_local_file_without_quoting_keeps_stray_quotation_marks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "SMSSpamCollection"
    path.write_text('ham\t"Yes, she said\nspam\tWIN "now\nham\tNA\n')
    with caplog.at_level(logging.WARNING):
        frame = SmsSpam(str(path), "unused", URLS, SHA).load().frame
    assert frame["text"].tolist() == ['"Yes, she said', 'WIN "now', "NA"]
    assert "not the published SMS Spam Collection" in caplog.text


@pytest.mark.parametrize("content", [b"PK\x03\x04 not really a zip", b"text,label\nhello,a\n", b"\xff\xfe\x00"])
def test_local_file_that_is_something_else_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "collection"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"^(path|encoding): "):
        SmsSpam(str(path), "unused", URLS, SHA).load()


def test_sample_is_synthetic_and_says_so() -> None:
    messages = SampleSms().load()
    assert messages.frame["label"].value_counts().to_dict() == {"ham": 300, "spam": 180}
    assert "synthetic" in messages.note
    assert not messages.frame["text"].str.startswith("#").any()


@pytest.mark.parametrize(("separator", "word"), [(";", "semicolon"), ("\t", "tab"), ("|", "pipe"), (",", "comma")])
@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_separator_is_found_by_the_names_of_the_columns(tmp_path: Path, separator: str, word: str, ending: str) -> None:
    rows = [["id", "text", "label"], ["1", '"one, two; three | four"', "a"], ["2", "five", "b"]]
    path = tmp_path / f"table{ending}"
    path.write_text("\n".join(separator.join(row) for row in rows) + "\n")
    for given in (None, word, separator):
        frame = Table(str(path), "text", "label", separator=given).load().frame
        assert frame["text"].tolist() == ["one, two; three | four", "five"]


@pytest.mark.parametrize(("text", "label"), [("text", "label"), ("body", "label"), ("body", "topic")])
def test_columns_that_are_missing_are_told_beside_those_that_the_separator_of_the_file_makes(
    tmp_path: Path, text: str, label: str
) -> None:
    path = tmp_path / "table.csv"
    path.write_text("id;body;topic class\n1;hello, you;a\n2;bye;b\n")
    with pytest.raises(OptionError, match=r"\(id, body, topic class\)"):
        Table(str(path), text, label).load()
