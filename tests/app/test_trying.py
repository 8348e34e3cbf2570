"""The page says of a text what predict says."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from saved_classifier import saved

from gpt_classifier import TextClassifier
from gpt_classifier.app.server import application
from gpt_classifier.app.trying import Trying

BASE = "http://127.0.0.1:8008"


def client(path: Path | None, **options: Any) -> TestClient:
    app = application([Trying(path, **options).router], "127.0.0.1")
    return TestClient(app, base_url=BASE, headers={"origin": BASE})  # type: ignore[arg-type]


def test_probabilities_are_those_of_predict_and_the_last_piece_has_them_too(tmp_path: Path) -> None:
    path = saved(tmp_path)
    expected = TextClassifier.load(path).predict_proba(["one two three"])[0]
    found = client(path).post("/try/text", json={"text": "one two three", "trace": True}).json()
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
    np.testing.assert_allclose(found["pieces"][-1]["probabilities"], expected, atol=1e-4)
    assert "".join(piece["text"] for piece in found["pieces"]) == "one two three"
    assert found["tokens"] == found["kept"] == len(found["pieces"])
    assert client(path).post("/try/text", json={"text": "one"}).json()["pieces"] == []


def test_what_was_not_read_of_a_long_text_is_told(tmp_path: Path) -> None:
    found = client(saved(tmp_path, max_length=10)).post("/try/text", json={"text": "word " * 30}).json()
    assert (found["tokens"] > 10, found["kept"]) == (True, 10)


def test_text_without_a_trace_has_no_pieces(tmp_path: Path) -> None:
    asked = client(saved(tmp_path, causal=False))
    assert asked.post("/try/text", json={"text": "one two", "trace": True}).json()["pieces"] == []
    assert '"trace": false' in asked.get("/").text


def test_empty_text_and_no_classifier_are_told(tmp_path: Path) -> None:
    assert "is empty" in client(saved(tmp_path)).post("/try/text", json={"text": " "}).json()["error"]
    none = client(None, root="/try")
    assert "There is no classifier yet" in none.post("/try/text", json={"text": "a"}).json()["error"]
    assert "There is no classifier yet" in none.get("/try").text


def test_table_comes_back_as_predict_writes_it(tmp_path: Path) -> None:
    path = saved(tmp_path)
    table = 'id;body\n1;"one; two"\n2;\n3;=1+1\n'
    answer = client(path).post("/try/table?name=my.csv&column=body", content=table.encode())
    assert answer.headers["content-disposition"] == 'attachment; filename="classified.csv"'
    found = pd.read_csv(io.StringIO(answer.text), keep_default_na=False)
    assert found["id"].tolist() == [1, 2, 3]
    assert found["predicted_label"].tolist()[:1] == TextClassifier.load(path).predict(["one; two"]).tolist()
    assert found["reason"].tolist() == ["", "the text is empty", ""]
    assert found["body"].tolist()[2] == "'=1+1"  # a spreadsheet opens it


@pytest.mark.parametrize(
    ("asked", "content", "told"),
    [
        ("name=a.csv&column=body", b"text\nx\n", "column: expected a column of a.csv"),
        ("name=a.pdf", b"%PDF", "a.pdf: expected a file ending in"),
        ("name=a.csv", b"text\n\xff\xfe\x00", "a.csv"),
        ("name=../../a.xlsx", b"no workbook", "../../a.xlsx"),
    ],
)
def test_table_that_cannot_be_read_is_told_by_its_own_name(
    tmp_path: Path, asked: str, content: bytes, told: str
) -> None:
    answer = client(saved(tmp_path)).post(f"/try/table?{asked}", content=content)
    if answer.status_code == 200:  # bytes that are no text are one row's affair
        assert "no characters" in answer.text
        return
    assert answer.status_code == 400
    assert told in answer.json()["error"]
    assert "/tmp" not in answer.json()["error"]


def test_page_shows_examples_and_class_names_as_text_and_loads_nothing(tmp_path: Path) -> None:
    answer = client(saved(tmp_path), examples=["a <i>text</i>"]).get("/")
    assert "a &lt;i&gt;text&lt;/i&gt;" in answer.text
    assert "<b>maybe" not in answer.text
    assert not re.findall(r"(?:src|href)=.?(?:https?:|//)", answer.text)
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_page_of_the_evaluation_is_shown_where_there_is_one(tmp_path: Path) -> None:
    path = saved(tmp_path)
    assert "There is no page about this classifier yet" in client(path).get("/look").text
    (path / "evaluation").mkdir()
    (path / "evaluation" / "report.html").write_text("<p>97 %</p><script>sort()</script>")
    answer = client(path).get("/look")
    assert "97 %" in answer.text
    assert answer.headers["content-security-policy"].count("sha256-") == 1
