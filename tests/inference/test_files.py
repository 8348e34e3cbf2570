"""Files of texts, however they are: order and columns kept, what is no text told, nothing half-written."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from gpt_classifier.errors import UserError
from gpt_classifier.inference import files, writing
from gpt_classifier.inference.writing import Count, Shown, Writer
from gpt_classifier.tables import text_rows
from gpt_classifier.tables.parquet import read_parquet
from gpt_classifier.tables.reading import Style
from gpt_classifier.tables.text_rows import read_rows


def by_length(texts: Sequence[str]) -> np.ndarray:
    """A classifier of short and long texts."""
    assert all(text.strip() for text in texts)
    long = np.array([len(text) > 5 for text in texts], dtype=np.float32)
    return np.stack([0.9 - 0.8 * long, 0.1 + 0.8 * long], axis=1)


def run(content: bytes, kind: str, target: str, folder: Path, **options: str) -> tuple[Count, bytes]:
    source = folder / f"in.{kind}"
    source.write_bytes(content)
    encoding = options.pop("encoding", "utf-8")
    safe = bool(options.pop("safe", ""))
    with (
        files.opened_rows([source], options.pop("text_column", "text"), Style(encoding=encoding, **options)) as (
            columns,
            rows,
        ),
        writing.written(folder / f"out.{target}", encoding) as written,
    ):
        writer = Writer(written, target, columns, ["short", "long"], spreadsheet_safe=safe)
        count = writing.classify(rows, by_length, writer)
    assert not list(folder.glob("*.part"))
    return count, (folder / f"out.{target}").read_bytes()


def table(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8", "surrogateescape"), newline="")))


def test_csv_keeps_order_and_columns_over_many_chunks(tmp_path: Path) -> None:
    n = 3 * writing.CHUNK_ROWS + 5
    lines = [f'{i},"te""xt\n{"x" * (i % 9)}",k{i}' for i in range(n)]
    count, out = run(("id,text,other\n" + "\n".join(lines)).encode(), "csv", "csv", tmp_path)
    assert count.rows == n
    rows = table(out)
    assert [row["id"] for row in rows] == [str(i) for i in range(n)]
    assert all(row["other"] == f"k{row['id']}" for row in rows)
    assert all(row["predicted_label"] == ("long" if len(row["text"]) > 5 else "short") for row in rows)
    assert rows[0]["probability_long"] == "0.900000"


def test_rows_that_are_no_text_get_a_reason_and_stay(tmp_path: Path) -> None:
    content = b"id,text\n1,hello\n2,   \n3\n4,a,b,c\n5,caf\xe9 \xff\n6,\x00nul\n7,ok\n"
    count, out = run(content, "csv", "csv", tmp_path)
    rows = table(out)
    assert [row["id"] for row in rows] == list("1234567")
    reasons = {row["id"]: row["reason"] for row in rows}
    assert reasons["2"] == "the text is empty"
    assert reasons["3"] == "there is no text"
    assert "more fields than the header: ['b', 'c']" in reasons["4"]
    assert "that are no characters" in reasons["5"]
    assert all((row["predicted_label"] == "") == bool(row["reason"]) for row in rows)
    assert [reasons[i] for i in "167"] == ["", "", ""]
    assert b"caf\xe9 \xff" in out  # bytes are kept as they came
    assert sum(count.skipped.values()) == 4


def test_json_lines_keep_their_keys_and_lone_surrogates(tmp_path: Path) -> None:
    lines = [
        json.dumps({"text": "hello 😀", "n": [1, {"a": None}]}, ensure_ascii=False),
        '{"text": "\\ud800 alone", "id": 2}',
        '{"text": 5}',
        '{"body": "no text"}',
        "[1, 2]",
        '{"text": "cut',
        "",
        '{"text": "<b>\\u0000</b>"}',
    ]
    count, out = run("\n".join(lines).encode(), "jsonl", "jsonl", tmp_path)
    rows = [json.loads(line) for line in out.decode().splitlines()]
    assert len(rows) == count.rows == len(lines)
    assert rows[0] | {"reason": None} == rows[0]
    assert rows[0]["text"] == "hello 😀"
    assert rows[0]["n"] == [1, {"a": None}]
    assert rows[0]["predicted_label"] == "long"
    assert rows[0]["probabilities"]["long"] == pytest.approx(0.9)
    assert rows[1]["text"] == "\ud800 alone"
    reasons = [row["reason"] for row in rows]
    assert "code points that are no characters" in reasons[1]
    assert reasons[2] == "the text is a number, not a string"
    assert reasons[3] == "there is no text"
    assert reasons[4] == "the line is not a JSON object"
    assert reasons[5].startswith("the line is not JSON")
    assert reasons[7] is None
    assert all(row["predicted_label"] is None and row["probabilities"] == {} for row in rows[1:7])


def test_answers_never_take_the_place_of_what_was_there(tmp_path: Path) -> None:
    for line in ('{"text": "a", "reason": 1}', '{"text": "a", "probabilities": {}}'):
        with pytest.raises(UserError, match="it already has a column"):
            run(line.encode(), "jsonl", "jsonl", tmp_path)
    with pytest.raises(UserError, match="it already has a column probabilities"):
        run(b"text,probabilities\na,1\n", "csv", "jsonl", tmp_path)


def test_carriage_returns_and_empty_lines_come_out_as_they_went_in(tmp_path: Path) -> None:
    _, out = run(b'id,text\n1,"a\rb"\n2,"c\r\nd"\n', "csv", "csv", tmp_path)
    assert [row["text"] for row in table(out)] == ["a\rb", "c\r\nd"]
    count, out = run(b"text\none\n\ntwo\n", "csv", "csv", tmp_path)
    assert [row["text"] for row in table(out)] == ["one", "", "two"]
    assert count.rows == 3


def test_other_encodings_separators_and_quotes(tmp_path: Path) -> None:
    _, out = run("text,n\nné né né,1\n".encode("utf-16"), "csv", "csv", tmp_path, encoding="utf-16")
    assert "né né né,1,long" in out.decode("utf-16")
    _, out = run("\ufefftext\tn\nhi\t1\n".encode(), "tsv", "tsv", tmp_path)
    assert out.startswith(b"text\tn\tpredicted_label")
    content = b'n,text\n1,"open\n2,closed\n'
    _, out = run(content, "csv", "csv", tmp_path, quoting="none")
    assert [row["n"] for row in table(out)] == ["1", "2"]


def test_what_can_not_be_read_is_told_and_leaves_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [
        (b"id,body\n1,hello\n", {}, r"--text-column: expected a column of .*in.csv \(id, body\), but it is 'text'"),
        ("text\nhello\n".encode("utf-16"), {}, "--encoding: .* but it is utf-8, and it begins like utf-16"),
        ("text\nhello\n".encode("utf-16-le"), {}, r"--text-column: expected a column"),
        ("text\nhello\n".encode("utf-16-le"), {"encoding": "utf-16"}, "--encoding: .*BOM"),
        (b'id,text\n1,"open\n2,closed\n3,last\n', {}, "Is a quotation mark left open"),
        (b"", {}, "which has no header"),
        (b"text,text\na,b\n", {}, "with two named 'text'"),
        (b"text\nok\n", {"encoding": "hex"}, "--encoding: expected an encoding of text .* but it is hex"),
        (
            b"\xff\xfet\x00e\x00x\x00t\x00\n\x00o",
            {"encoding": "utf-16"},
            "--encoding: .*utf-16: .*truncated",
        ),
    ]
    for content, options, message in cases:
        with pytest.raises(UserError, match=message):
            run(content, "csv", "csv", tmp_path, **options)
    monkeypatch.setattr(text_rows, "LONGEST_FIELD", 1000)
    with pytest.raises(UserError, match="Is a quotation mark left open"):
        run(b'text\nok\n"open' + b"\n more" * 1000, "csv", "csv", tmp_path)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("reason", [KeyboardInterrupt, SystemExit(143)])  # Ctrl-C, and how commands end at SIGTERM
def test_interrupted_output_never_looks_complete(tmp_path: Path, reason: BaseException) -> None:
    (tmp_path / "out.csv").write_text("of an earlier run")

    def interrupted() -> None:
        with writing.written(tmp_path / "out.csv", "utf-8") as written:
            written.write("half")
            raise reason

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    assert (tmp_path / "out.csv").read_text() == "of an earlier run"


def test_of_many_rows_a_chunk_is_held_at_a_time() -> None:
    n = 40 * writing.CHUNK_ROWS + 1
    state = {"read": 0, "written": 0, "most": 0}

    def lines() -> Iterator[str]:
        yield "text,id\n"
        for i in range(n):
            state["read"] += 1
            state["most"] = max(state["most"], state["read"] - state["written"])
            yield f"hello {i},{i}\n" if i < n - 1 else f"{i}\n"

    class Target(io.StringIO):
        def write(self, text: str) -> int:
            state["written"] += 1
            self.last = text
            return len(text)

    target = Target()
    columns, rows = read_rows(lines(), "csv", "in.csv")  # type: ignore[arg-type]
    writer = Writer(target, "csv", columns, ["a", "b"])
    with_texts = (files.with_text(row, "id") for row in rows)
    count = writing.classify(with_texts, lambda texts: np.ones((len(texts), 2)) / 2, writer)
    assert count.rows == n
    assert count.skipped == {"there is no id": 1}
    assert target.last == f"{n - 1},,,,,,there is no id\n"
    assert state["most"] <= writing.CHUNK_ROWS


def test_parquet_keeps_order_columns_and_values_that_are_no_text(tmp_path: Path) -> None:
    n = 2 * writing.CHUNK_ROWS + 2
    bodies = pa.array(["hello you", "hi", None] * (n // 3))
    when = pa.array([datetime(2026, 11, 21)] * n)
    at = {"id": pa.array(range(n)), "body": bodies, "when": when, "share": pa.array([float("nan")] * n)}
    pyarrow.parquet.write_table(pa.table(at), tmp_path / "in.parquet")
    for target in ("csv", "jsonl"):
        with files.opened_rows([tmp_path / "in.parquet"], "body", Style()) as (columns, rows):
            assert columns == ["id", "body", "when", "share"]
            with writing.written(tmp_path / f"out.{target}", "utf-8") as written:
                count = writing.classify(rows, by_length, Writer(written, target, columns, ["short", "long"]))
        assert count.rows == n
        assert count.skipped == {"the text is empty": n // 3}
    found = table((tmp_path / "out.csv").read_bytes())
    assert [row["id"] for row in found] == [str(i) for i in range(n)]
    assert [row["predicted_label"] for row in found[:3]] == ["long", "short", ""]
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert first["when"] == "2026-11-21 00:00:00"
    assert first["share"] is None  # JSON has no NaN


def test_of_a_parquet_file_a_part_is_held_at_a_time(tmp_path: Path) -> None:
    texts = [os.urandom(500).hex() for _ in range(30_000)]  # 30 MB in one row group
    pyarrow.parquet.write_table(pa.table({"text": texts}), tmp_path / "in.parquet", row_group_size=30_000)
    before = most = pa.total_allocated_bytes()
    _, rows = read_parquet(tmp_path / "in.parquet")
    for expected, row in zip(texts, rows, strict=True):
        assert row.fields["text"] == expected
        most = max(most, pa.total_allocated_bytes())
    assert most - before < 8e6


def parquet_rows(path: Path, text_column: str) -> list[files.Row]:
    with files.opened_rows([path], text_column, Style()) as (_, rows):
        return list(rows)


def test_parquet_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pa.table({"body": ["a"], "n": [1]}), path)
    with pytest.raises(UserError, match=r"--text-column: expected a column of .* \(body, n\), but it is 'text'\. Set"):
        parquet_rows(path, "text")
    assert [row.reason for row in parquet_rows(path, "n")] == ["the text is a number, not a string"]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="--input: expected a Parquet file"):
        parquet_rows(path, "body")
    pyarrow.parquet.write_table(pa.table([["a"], ["b"]], names=["body", "body"]), path)
    with pytest.raises(UserError, match=r"--input: expected .* different names, .* two named 'body'"):
        parquet_rows(path, "body")


def test_parquet_values_that_python_can_not_hold_stay_in_their_row(tmp_path: Path) -> None:
    bodies = pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff", b"hi"]).buffers())
    late = pa.array([2**62, 0], pa.int64()).cast(pa.timestamp("us"))
    later = pa.ListArray.from_arrays(pa.array([0, 1, 2]), late)
    pyarrow.parquet.write_table(pa.table({"body": bodies, "when": late, "all": later}), tmp_path / "a.parquet")
    first, second = parquet_rows(tmp_path / "a.parquet", "body")
    assert "are no characters" in first.reason
    assert first.fields == {
        "body": "\udcff",
        "when": "<value out of range: 4611686018427387904>",
        "all": "[ <value out of range: 4611686018427387904> ]",
    }
    assert second.text == "hi"
    assert second.reason == ""
    assert second.fields["when"] == datetime(1970, 1, 1)


def test_deeply_nested_json_is_a_reason_of_its_row(tmp_path: Path) -> None:
    deep = [f'{{"text": "a", "deep": {"[" * n}{"]" * n}}}' for n in (50, 900, 100_000)]
    bare = "[" * 900 + "]" * 900
    count, out = run("\n".join([*deep, bare, '{"text": "b"}']).encode(), "jsonl", "jsonl", tmp_path)
    rows = [json.loads(line) for line in out.decode().splitlines()]
    reasons = [row["reason"] for row in rows]
    assert count.rows == 5
    assert reasons[0] is reasons[4] is None
    assert all("more than 100 lists and objects inside one another" in reason for reason in reasons[1:4])
    assert [row["line"] for row in rows[1:4]] == [deep[1], deep[2], bare]  # kept as they came


def test_cells_that_a_spreadsheet_would_run_are_passed_on_or_made_safe(tmp_path: Path) -> None:
    content = 'text,=n,k\n"=1+1",+2,plain\n@x,-3,"\tt"\n"\rr",＝4,a=b\n'.encode()
    for kind, separator in (("csv", ","), ("tsv", "\t")):
        _, out = run(content.replace(b",", separator.encode()) if kind == "tsv" else content, kind, kind, tmp_path)
        assert "'" not in out.decode()
    _, out = run(content, "csv", "csv", tmp_path, safe="yes")
    header, *rows = csv.reader(io.StringIO(out.decode(), newline=""))
    assert header[:3] == ["text", "'=n", "k"]
    assert [row[:3] for row in rows] == [["'=1+1", "'+2", "plain"], ["'@x", "'-3", "'\tt"], ["'\rr", "'＝4", "a=b"]]


def test_names_of_classes_are_made_safe_too() -> None:
    target = io.StringIO()
    writer = Writer(target, "csv", ["text"], ["=a", "b"], spreadsheet_safe=True)
    writer.write(files.Row({"text": "x"}, "x"), np.array([0.9, 0.1]))
    assert target.getvalue().splitlines()[1] == "x,'=a,0.900000,0.900000,0.100000,"


def classified(kind: str, shown: Shown, classes: int = 3) -> list[str]:
    """The lines of two rows, of which the second has no text."""
    target = io.StringIO()
    writer = Writer(target, kind, ["text"], [f"c{i}" for i in range(classes)], shown=shown)
    probabilities = np.zeros(classes)
    probabilities[:3] = 0.2, 0.5, 0.3
    writer.write(files.Row({"text": "x"}, "x"), probabilities)
    writer.write(files.Row({"text": ""}, ""), None)
    return target.getvalue().splitlines()


def test_more_than_one_label_and_labels_alone_are_told_on_request() -> None:
    header, row, empty = classified("csv", Shown(top=2, all_probabilities=False))
    assert header == "text,predicted_label,confidence,predicted_label_2,confidence_2,reason"
    assert row == "x,c1,0.500000,c2,0.300000,"
    assert empty == ",,,,,the text is empty"
    assert classified("csv", Shown(labels_only=True)) == ["text,predicted_label,reason", "x,c1,", ",,the text is empty"]
    below = Shown(top=9, threshold=("c1", 0.6))  # c1 is not predicted, but is still likely
    assert classified("txt", below)[0] == "c2\t0.3000\tc1\t0.5000\tc0\t0.2000\tx"
    assert classified("txt", Shown(top=9))[0] == "c1\t0.5000\tc2\t0.3000\tc0\t0.2000\tx"
    assert classified("txt", Shown(labels_only=True))[0] == "c1"
    line = json.loads(classified("jsonl", Shown(top=2))[0])
    assert (line["predicted_label_2"], line["confidence_2"]) == ("c2", 0.3)
    assert line["probabilities"] == {"c0": 0.2, "c1": 0.5, "c2": 0.3}


def test_of_many_classes_a_column_each_is_only_written_on_request() -> None:
    assert classified("csv", Shown(), classes=21)[0] == "text,predicted_label,confidence,reason"
    assert "probabilities" not in json.loads(classified("jsonl", Shown(), classes=21)[0])
    assert classified("csv", Shown(all_probabilities=True), classes=21)[0].count("probability_") == 21
    assert classified("csv", Shown(), classes=20)[0].count("probability_") == 20


def test_input_that_is_cut_while_it_is_read_leaves_no_output(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text\n" + "hello\n" * 50_000)

    def cut_then_classify(texts: Sequence[str]) -> np.ndarray:
        os.truncate(source, 1000)
        return by_length(texts)

    def classify() -> None:
        with (
            files.opened_rows([source], "text", Style()) as (columns, rows),
            writing.written(tmp_path / "out.csv", "utf-8") as written,
        ):
            writing.classify(rows, cut_then_classify, Writer(written, "csv", columns, ["short", "long"]))

    with pytest.raises(UserError, match=r"--input: expected a file that stays as it is .*, 300,005 bytes"):
        classify()
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def write_to(path: Path, text: str = "whole") -> None:
    with writing.written(path, "utf-8") as written:
        written.write(text)


def test_output_through_a_symbolic_link_replaces_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    target, link = tmp_path / "other" / "real.csv", tmp_path / "link.csv"
    link.symlink_to(target)
    for before in (None, "of an earlier run"):
        if before:
            target.write_text(before)
        write_to(link)
        assert link.is_symlink()
        assert target.read_text() == "whole"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["link.csv", "other", "real.csv"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_output_that_is_no_regular_file_is_written_to(tmp_path: Path) -> None:
    fifo = tmp_path / "out.csv"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    write_to(fifo)
    assert os.read(reader, 100) == b"whole"
    os.close(reader)
    assert fifo.is_fifo()
    write_to(Path(os.devnull))
    assert not Path(os.devnull).is_file()


def test_standard_output_may_be_named(tmp_path: Path) -> None:
    code = "from pathlib import Path; from gpt_classifier.inference import writing\n"
    code += "with writing.written(Path('/dev/stdout'), 'utf-8') as target: target.write('whole')"
    into = tmp_path / "log"
    into.write_text("before ")
    with into.open("a") as log:
        subprocess.run([sys.executable, "-c", code], check=True, stdout=log)
    assert into.read_text() == "before whole"


@pytest.mark.skipif(os.name != "posix", reason="processes are asked by signal 0")
def test_parts_of_runs_that_were_killed_are_removed_by_the_next(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    kept = [f"out.csv.{os.getppid()}.part", "out.csv.notes.part", f"other.csv.{gone.pid}.part"]
    for name in (f"out.csv.{gone.pid}.part", *kept):
        (tmp_path / name).write_text("half")
    write_to(tmp_path / "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "out.csv"])


def test_a_column_of_lines_of_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("id;body\n1;hello\n")
    told = r"--text-column: .*a\.txt is read as a text a line, .*--input-format"
    with pytest.raises(UserError, match=told), files.opened_rows([tmp_path / "a.txt"], "body", Style()):
        pass
    with files.opened_rows([tmp_path / "a.txt"], "text", Style()) as (_, rows):
        assert len(list(rows)) == 2
