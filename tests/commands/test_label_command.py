"""The commands label and app: as processes that are killed and interrupted, and what they refuse before they begin."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from saved_classifier import saved
from sessions import texts_of, truth

from gpt_classifier.commands import main as command
from gpt_classifier.labelling.collection import Collection
from gpt_classifier.labelling.store import Store

TEXTS = texts_of(40)


class Process:
    """A command that serves pages, and its address."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gpt_classifier", *map(str, arguments), "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = ""
        while " at http://" not in line:
            line = self.process.stdout.readline()
            assert line, "it ended"
        self.address = line.split(" at ")[1].split(",")[0]

    def asked(self, path: str, content: Any = None) -> Any:
        data = None if content is None else json.dumps(content).encode()
        headers = {"Origin": self.address.rstrip("/"), "Content-Type": "application/json"}
        request = urllib.request.Request(self.address.rstrip("/") + path, data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def ended(self, how: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(how)
        rest, _ = self.process.communicate(timeout=60)
        return self.process.returncode, rest


def test_kill_9_loses_no_label_and_ctrl_c_leaves_the_tables(tmp_path: Path) -> None:
    texts, out = tmp_path / "texts.txt", tmp_path / "labels.csv"
    texts.write_text("\n".join(TEXTS))
    arguments = ("label", "--texts", texts, "--classes", "ham,spam", "--out", out)
    process = Process(*arguments)
    status = process.asked("/label/status")
    for _ in range(12):
        status = process.asked("/label/answer", {"text": status["text"], "label": truth(status["content"])})
    process.ended(signal.SIGKILL)
    process = Process(*arguments)
    again = process.asked("/label/status")
    assert (again["answered"], again["text"]) == (12, status["text"])
    while (status := process.asked("/label/status"))["evidence"] is None:
        assert not status["failure"]
        time.sleep(0.02)
    assert status["evidence"]["trained"] == 10
    code, told = process.ended(signal.SIGINT)
    assert code == 0
    assert "10 labels to learn from" in told
    frames = [pd.read_csv(path) for path in (out, tmp_path / "labels.test.csv")]
    assert [len(frame) for frame in frames] == [10, 2]
    for frame in frames:
        assert frame["label"].tolist() == [("ham", "spam")[truth(text)] for text in frame["text"]]


def test_app_answers_and_ends_in_order(tmp_path: Path) -> None:
    process = Process("app", "--checkpoint", saved(tmp_path))
    found = process.asked("/try/text", {"text": "one two", "trace": True})
    assert sum(found["probabilities"]) == pytest.approx(1)
    assert process.ended(signal.SIGTERM)[0] in (0, 143)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"--classes": "ham,spam,ham"}, "--classes: expected from 2 to 35 different names"),
        ({"--texts": "empty.txt"}, "--texts: expected a file with at least one text"),
        ({"--texts": "none.txt"}, "--texts: expected a file of texts"),
        ({"--text-column": "body", "--texts": "texts.csv"}, "--text-column: expected a column of texts.csv"),
        ({"--out": "labels.xlsx"}, "--out: expected a file ending in .csv"),
        (
            {"--labels": "wrong.csv"},
            "--labels: expected the classes ham, spam, but it is wrong.csv, which has 'eggs' too",
        ),
        ({"--out": "known.csv"}, "--texts: expected the texts that the labels in .*known.sqlite belong to"),
        ({"--out": "held.csv"}, "another process has it open"),
        ({"--port": "70000"}, "--port: expected a free port"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in {
        "texts.txt": "\n".join(TEXTS),
        "texts.csv": "text\n" + "\n".join(TEXTS),
        "empty.txt": "\n\n",
        "wrong.csv": "text,label\na,eggs\n",
    }.items():
        (tmp_path / name).write_text(content)
    Store(tmp_path / "known.sqlite", ["ham", "spam"], "others").close()
    collection = Collection.of(list(enumerate(TEXTS)))
    held = Store(tmp_path / "held.sqlite", ["ham", "spam"], collection.sha256)
    before = sorted(path.name for path in tmp_path.iterdir())
    options = {"--texts": "texts.txt", "--classes": "ham,spam", "--out": "labels.csv", "--port": "0", **changed}
    with pytest.raises(SystemExit, match=told):
        command(["label", *(part for option in options.items() for part in option)])
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    held.close()


def test_checkpoint_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="there is no file"):
        command(["app", "--checkpoint", str(tmp_path / "none")])


@pytest.mark.parametrize("lacking", ["fastapi", "uvicorn"])
def test_extra_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str) -> None:
    for name in [name for name in sys.modules if name.startswith("gpt_classifier.app")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, lacking, None)
    with pytest.raises(SystemExit, match=r'need the extra app: pip install -e "\.\[app\]"'):
        command(["app", "--checkpoint", str(saved(tmp_path)), "--port", "0"])
