"""Texts without labels, from whatever files they are in."""

import gzip
import json
import lzma
from pathlib import Path

import pytest

from gpt_classifier.errors import OptionError
from gpt_classifier.tables.unlabelled import UnlabelledTexts

TEXTS = ['say "hi", they said', "two"]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.xz", "a.csv", "a.tsv", "a.jsonl", "a.json"])
def test_texts_of_a_file_of_any_kind(tmp_path: Path, name: str) -> None:
    quoted = '"say ""hi"", they said"'
    written = {
        "txt": "\n".join([TEXTS[0], "", TEXTS[1], " "]),
        "csv": f"id,text\n1,{quoted}\n2,\n3,two\n",
        "tsv": f"text\tid\n{quoted}\t1\n\t2\ntwo\t3\n",
        "jsonl": "\n".join(json.dumps({"text": text, "label": None}) for text in [TEXTS[0], None, TEXTS[1]]),
        "json": json.dumps({"text": [TEXTS[0], "", TEXTS[1]]}),
    }[name.split(".")[1]].encode()
    pack = {"gz": gzip.compress, "xz": lzma.compress}.get(name.rpartition(".")[2], bytes)
    (tmp_path / name).write_bytes(pack(written))
    assert UnlabelledTexts(str(tmp_path / name)).read() == TEXTS


@pytest.mark.parametrize("name", ["a.txt", "a.txt.xz"])
def test_lines_of_their_own_separate_documents(tmp_path: Path, name: str) -> None:
    text = b"one\n\nline\n#\n\n#\ntwo # and more".replace(b"#", b"<|endoftext|>")
    (tmp_path / name).write_bytes(lzma.compress(text) if name.endswith("xz") else text)
    assert UnlabelledTexts(str(tmp_path / name)).read() == ["one\n\nline", "two <|endoftext|> and more"]


def test_several_files_are_read_by_a_pattern(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(f"body;id\nof {name};1\n")
    assert UnlabelledTexts(str(tmp_path / "*.csv"), text_column="body").read() == ["of a", "of b"]


@pytest.mark.parametrize(
    ("name", "content", "options", "expected"),
    [
        ("a.csv", "body\nx\n", {}, "text_column: expected a column of .*a.csv"),
        ("a.csv", "text,id\nx,1,2\n", {}, "path: .* the row has more fields than the header.*data row 1"),
        ("a.csv", 'text\n"x\n', {}, "quoting: expected none"),
        ("a.jsonl", '{"text": "x"}\n{"text": 5}\n', {}, r"path: .*the text is a number, not a string \(data row 2\)"),
        ("a.txt", "\n \n", {}, "path: expected a file with at least one text"),
        ("a.pdf", "x", {}, "path: expected a file ending in"),
        ("a.txt.xz", "x", {}, "path: expected a whole .xz file"),
        ("a.txt", "é", {"encoding": "ascii"}, "encoding: "),
    ],
)
def test_what_cannot_be_read_is_told(
    tmp_path: Path, name: str, content: str, options: dict[str, str], expected: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(OptionError, match=expected):
        UnlabelledTexts(str(tmp_path / name), **options).read()
    with pytest.raises(OptionError, match=r"path: .* there is no file"):
        UnlabelledTexts(str(tmp_path / "none.txt")).read()
