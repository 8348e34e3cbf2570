"""predict on files and terminals as people have them."""

import csv
import gzip
import json
import os
from pathlib import Path

import pandas as pd
import pytest

from gpt_classifier import TextClassifier
from gpt_classifier.commands.predict import main

TINY = ["model.backbone.n_layer=1", "model.backbone.n_embd=24", "model.backbone.n_head=2"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A classifier whose classes have names that a terminal or a spreadsheet would obey."""
    classifier = TextClassifier(
        weights="random", freeze="none", device="cpu", epochs=1, progress=False, cache=False, overrides=TINY
    )
    texts = [f"{word} number {i}" for i in range(12) for word in ("lunch", "prize")]
    classifier.fit(texts, ["=ha\x1b[31mm", "=sp\x1b[32mam"] * 12)
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    classifier.save(folder)
    return str(folder)


def test_a_terminal_gets_no_control_characters_and_a_file_gets_names_as_they_are(
    checkpoint: str, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    main(["--checkpoint", checkpoint, "--text", "a lunch\x1b]0;title\x07"])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert printed.startswith(("=ha\\x1b[31mm\t", "=sp\\x1b[32mam\t"))
    assert "lunch\\x1b]0;title\\x07" in printed
    (tmp_path / "in.txt").write_text("a lunch\n")
    main(["--checkpoint", checkpoint, "--input", str(tmp_path / "in.txt"), "--output", str(tmp_path / "out.txt")])
    assert (tmp_path / "out.txt").read_text().startswith(("=ha\x1b[31mm\t", "=sp\x1b[32mam\t"))


def test_texts_need_no_flag_and_an_empty_one_is_an_error(checkpoint: str, capsys: pytest.CaptureFixture) -> None:
    main(["--checkpoint", checkpoint, "a lunch", "--top", "2", "a prize"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[-1] for line in lines] == ["a lunch", "a prize"]
    assert all(len(line.split("\t")) == 5 for line in lines)
    for arguments in (["--text", ""], [" "], ["a lunch", "--top", "0"], []):
        with pytest.raises(SystemExit) as stopped:
            main(["--checkpoint", checkpoint, *arguments])
        assert stopped.value.code == 2


def test_a_threshold_decides_whether_its_class_is_predicted(checkpoint: str, capsys: pytest.CaptureFixture) -> None:
    def predicted(threshold: str) -> list[str]:
        main(["--checkpoint", checkpoint, "a lunch", "a prize", "--json", "--threshold", threshold])
        return [json.loads(line)["predicted_label"] for line in capsys.readouterr().out.splitlines()]

    ham, spam = "=ha\x1b[31mm", "=sp\x1b[32mam"
    assert predicted(f"{spam}=0") == [spam, spam]
    assert predicted(f"{spam}=1") == [ham, ham]
    for wrong in ("eggs=0.5", "0.5", f"{spam}=2", f"{spam}=high"):
        with pytest.raises(SystemExit, match="--threshold: expected"):
            main(["--checkpoint", checkpoint, "a lunch", "--threshold", wrong])


def test_errors_print_no_control_characters_of_column_names(checkpoint: str, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("bo\x1b[31mdy,n\nhello,1\n")
    with pytest.raises(SystemExit, match=r"--text-column: expected a column of .* \(bo\\x1b\[31mdy, n\)") as stopped:
        main(["--checkpoint", checkpoint, "--input", str(tmp_path / "in.csv")])
    assert "\x1b" not in str(stopped.value.code)


def test_cells_are_safe_for_spreadsheets_on_request(checkpoint: str, tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text,-n\n=1+1,@x\n")
    arguments = ["--checkpoint", checkpoint, "--input", str(source), "--spreadsheet-safe", "--output"]
    main([*arguments, str(target)])
    header, row = csv.reader(target.read_text().splitlines())
    assert header[:2] == ["text", "'-n"]
    assert row[:2] == ["'=1+1", "'@x"]
    assert row[2].startswith("'=")
    for output in ("out.jsonl", "out.txt"):
        with pytest.raises(SystemExit, match="--spreadsheet-safe: expected an output of csv or tsv, but it is "):
            main([*arguments, str(tmp_path / output)])


def test_one_deeply_nested_row_does_not_end_the_job(
    checkpoint: str, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.ndjson", tmp_path / "out.ndjson"
    source.write_text(f'{{"text": "a", "deep": {"[" * 900}{"]" * 900}}}\n{{"text": "prize"}}\n')
    main(["--checkpoint", checkpoint, "--input", str(source), "--output", str(target)])
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["predicted_label"] is None for row in rows] == [True, False]
    assert "1 of 2 rows could not be classified. 1 times: the line has more than 100 lists" in capsys.readouterr().err


def test_a_text_that_is_too_long_for_a_classifier_is_the_affair_of_its_row(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    options = {"weights": "random", "freeze": "none", "device": "cpu", "epochs": 1, "progress": False, "max_length": 8}
    classifier = TextClassifier(**options, overrides=[*TINY, "data.truncate=error"])
    classifier.fit(["lunch", "prize"] * 12, ["ham", "spam"] * 12).save(tmp_path / "short")
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text(f"id,text\n1,lunch\n2,{'and so on ' * 9}\n3,\n4,{'prize ' * 40}\n5,prize\n")
    arguments = ["--checkpoint", str(tmp_path / "short"), "--input", str(source), "--output", str(target)]
    main(arguments)
    rows = list(csv.DictReader(target.read_text().splitlines()))
    assert [bool(row["predicted_label"]) for row in rows] == [True, False, False, False, True]
    assert [row["reason"].partition(":")[0] for row in rows] == [
        "",
        "the text is too long",
        "the text is empty",
        "the text is too long",
        "",
    ]
    assert rows[1]["reason"].endswith(" tokens, where 8 are read at most")
    assert "3 of 5 rows could not be classified. 2 times: the text is too long" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="1"):
        main([*arguments, "--strict"])


def test_output_that_is_the_input_by_another_name_is_refused(checkpoint: str, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text\nhello\n")
    os.link(source, tmp_path / "hard.csv")
    (tmp_path / "soft.csv").symlink_to(source)
    for name in ("hard.csv", "soft.csv", "in.csv"):
        with pytest.raises(SystemExit, match="--output: it is the input, which would be lost"):
            main(["--checkpoint", checkpoint, "--input", str(source), "--output", str(tmp_path / name)])
    assert source.read_text() == "text\nhello\n"


@pytest.mark.parametrize("arguments", [["--input", "in.csv"], ["--text", "hello"]])
def test_codec_that_is_no_encoding_of_text_is_told(
    checkpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.csv").write_text("text\nhello\n")
    with pytest.raises(SystemExit, match="--encoding: expected an encoding of text that Python knows by name"):
        main(["--checkpoint", checkpoint, "--encoding", "hex", *arguments])


def test_output_may_be_a_device_or_standard_output(
    checkpoint: str, capfd: pytest.CaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text("text\nhello\n")
    for place in (os.devnull, "/dev/stdout"):
        main(["--checkpoint", checkpoint, "--input", str(tmp_path / "in.csv"), "--output", place])
        out, err = capfd.readouterr()
        assert out.startswith("text,predicted_label" if place == "/dev/stdout" else "")
        assert "1 messages in" in err
    assert not Path(os.devnull).is_file()


def test_separator_of_the_input_is_found(checkpoint: str, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id;body\n1;a lunch, then\n")
    arguments = ["--input", str(tmp_path / "in.csv"), "--text-column", "body", "--output", str(tmp_path / "out.csv")]
    main(["--checkpoint", checkpoint, *arguments])
    header, row = csv.reader((tmp_path / "out.csv").read_text().splitlines())
    assert header[:3] == ["id", "body", "predicted_label"]
    assert row[:2] == ["1", "a lunch, then"]


def test_input_may_be_compressed_or_many_files_and_output_compressed(checkpoint: str, tmp_path: Path) -> None:
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"id,body\n3,see you\n"))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"body,id\nhello,1\n,2\n"))
    out = tmp_path / "out.csv.gz"
    main(["--checkpoint", checkpoint, "--input", f"{tmp_path}/?.csv.gz", "--text-column", "body", "--output", str(out)])
    rows = list(csv.DictReader(gzip.decompress(out.read_bytes()).decode().splitlines()))
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    assert [bool(row["predicted_label"]) for row in rows] == [True, False, True]


def test_rows_of_a_json_document_and_of_a_sheet_are_classified(checkpoint: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": [1, 2], "text": ["hello", "see you"]})
    frame.to_json(tmp_path / "a.json")
    with pd.ExcelWriter(tmp_path / "a.xlsx") as writer:
        frame[:1].to_excel(writer, sheet_name="First", index=False)
        frame.to_excel(writer, sheet_name="Second", index=False)
    for name, further in (("a.json", []), ("a.xlsx", ["--sheet", "Second"])):
        out = tmp_path / "out.jsonl"
        main(["--checkpoint", checkpoint, "--input", str(tmp_path / name), "--output", str(out), *further])
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert [row["id"] for row in rows] == [1, 2]
        assert all(row["predicted_label"] for row in rows)
