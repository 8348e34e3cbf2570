"""What the labelling page asks for: every answer is kept once, whatever tabs and browsers do."""

import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fastapi.testclient import TestClient
from sessions import Words, session_on, texts_of, truth

from gpt_classifier.app import label as module
from gpt_classifier.app.label import Labelling
from gpt_classifier.app.server import application
from gpt_classifier.labelling.session import Session

BASE = "http://127.0.0.1:8008"
TEXTS = texts_of(100)


def opened(folder: Path, texts: list[str] = TEXTS, model: Any = Words) -> tuple[Session, TestClient]:
    session = session_on(folder, texts, model=model)
    app = application(Labelling(session, folder / "labels.csv").routers, "127.0.0.1")
    return session, TestClient(app, base_url=BASE, headers={"origin": BASE})  # type: ignore[arg-type]


def test_answer_is_on_disk_before_the_next_text_is_sent(tmp_path: Path) -> None:
    session, client = opened(tmp_path)
    status = client.get("/label/status").json()
    for number in range(1, 20):
        text = status["text"]
        label = None if number % 7 == 0 else truth(status["content"])
        status = client.post("/label/answer", json={"text": text, "label": label}).json()
        answers = session.store.answers()
        assert len(answers) == number == status["answered"]
        assert (answers[-1].text, answers[-1].label) == (text, label)
        assert status["text"] != text
    assert status["skipped"] == 2
    assert sum(status["counts"].values()) == 17


def test_two_tabs_answer_the_same_text_once(tmp_path: Path) -> None:
    session, client = opened(tmp_path)
    text = client.get("/label/status").json()["text"]
    answers: list[int] = []

    def press(label: int) -> None:
        answers.append(client.post("/label/answer", json={"text": text, "label": label}).status_code)

    tabs = [threading.Thread(target=press, args=(label,)) for label in (0, 1, 0, 1)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    assert sorted(answers) == [200, 409, 409, 409]
    assert len(session.store.answers()) == 1
    late = client.post("/label/answer", json={"text": text, "label": 1}).json()
    assert "answered in another tab" in late["error"]
    assert late["text"] == session.status().text != text


@pytest.mark.parametrize(
    "sent",
    [{"text": 1}, {"text": "1", "label": 0}, {"text": 1, "label": 0.5}, {"text": 1, "label": 0, "more": 1}, [], "x"],
)
def test_request_that_is_no_answer_changes_nothing(tmp_path: Path, sent: Any) -> None:
    session, client = opened(tmp_path)
    assert client.post("/label/answer", json=sent).status_code == 422
    assert session.store.answers() == []


def test_class_that_is_none_is_refused(tmp_path: Path) -> None:
    session, client = opened(tmp_path)
    answer = client.post("/label/answer", json={"text": session.status().text, "label": 2})
    assert answer.status_code == 400
    assert "expected a class from 0 to 1" in answer.json()["error"]


def test_full_disk_is_told_and_the_text_stays(tmp_path: Path) -> None:
    session, client = opened(tmp_path, texts_of(600))
    pages = session.store._connection.execute("PRAGMA page_count").fetchone()[0]
    session.store._connection.execute(f"PRAGMA max_page_count={pages}")
    told = None
    while told is None:
        before = client.get("/label/status").json()
        answer = client.post("/label/answer", json={"text": before["text"], "label": 0})
        if answer.status_code != 200:
            told = answer.json()["error"]
    assert "the disk is full" in told
    assert "all before it are" in told
    after = client.get("/label/status").json()
    assert (after["text"], after["answered"]) == (before["text"], before["answered"])


def test_undo_and_random_texts(tmp_path: Path) -> None:
    _, client = opened(tmp_path)
    first = client.get("/label/status").json()
    client.post("/label/answer", json={"text": first["text"], "label": 1})
    undone = client.post("/label/undo", json={}).json()
    assert (undone["text"], undone["answered"]) == (first["text"], 0)
    assert client.post("/label/random", json={"wanted": True}).json()["random_only"] is True


def test_evidence_and_advice_are_told(tmp_path: Path) -> None:
    session, client = opened(tmp_path)
    assert client.get("/label/status").json()["evidence"] is None
    session.prepare()
    for _ in range(30):
        text = session.status().text
        assert text is not None
        session.answer(text, truth(session.texts[text]))
    session.fit()
    status = client.get("/label/status").json()
    assert status["evidence"]["accuracy"]["low"] < status["evidence"]["accuracy"]["value"]
    assert status["advice"].startswith("Too early to say")
    assert status["ready"] == 1


def test_tables_are_written_when_they_are_asked_for(tmp_path: Path) -> None:
    session, client = opened(tmp_path)
    for _ in range(10):
        text = session.status().text
        assert text is not None
        session.answer(text, truth(session.texts[text]))
    written = client.post("/label/csv", json={}).json()["written"]
    assert [Path(path).name for path in written] == ["labels.csv", "labels.test.csv"]
    assert [len(pd.read_csv(tmp_path / Path(path).name)) for path in written] == [8, 2]
    (tmp_path / "labels.csv").unlink()
    (tmp_path / "labels.csv").mkdir()
    assert "can't be written" in client.post("/label/csv", json={}).json()["error"]


def test_page_names_classes_as_text_and_runs_no_other_script(tmp_path: Path) -> None:
    classes = ["<script>alert(1)</script>", "b"]
    session = session_on(tmp_path, TEXTS, classes)
    app = application(Labelling(session, tmp_path / "labels.csv").routers, "127.0.0.1")
    answer = TestClient(app, base_url=BASE).get("/")  # type: ignore[arg-type]
    assert "<script>alert" not in answer.text
    assert answer.headers["content-security-policy"].count("sha256-") == 2
    assert "http" not in answer.text.replace("http-equiv", "")


def test_training_begins_when_there_is_something_to_learn_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Any] = []

    class Training:
        def __init__(self, out: Path, overrides: Any, done: Any) -> None:
            begun.append((out, overrides))
            self.folder, self.running, self.done, self.lines = tmp_path / "run1", True, False, ["$ train"]

        def stop(self) -> None:
            self.running = False

    monkeypatch.setattr(module, "Training", Training)
    session, client = opened(tmp_path)
    assert "at least two classes" in client.post("/label/train", json={}).json()["error"]
    for _ in range(15):
        text = session.status().text
        assert text is not None
        session.answer(text, truth(session.texts[text]))
    training = client.post("/label/train", json={}).json()["training"]
    assert training == {"running": True, "done": False, "lines": ["$ train"]}
    client.post("/label/train", json={})
    assert begun == [(tmp_path / "labels.csv", ())]  # one at a time
    assert (tmp_path / "labels.test.csv").is_file()
