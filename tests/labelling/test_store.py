"""No answer is lost or mixed up, whatever happens to the process or the disk."""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from gpt_classifier.errors import UserError
from gpt_classifier.labelling.store import Answer, Store

CLASSES = ["ham", "spam"]

KILLED = """
import sys
from pathlib import Path
from gpt_classifier.labelling.store import Answer, Store
store = Store(Path(sys.argv[1]), ["ham", "spam"], "texts")
for text in range(1000):
    store.add(Answer(text, text % 2, False))
    print(text, flush=True)
"""


def test_kill_9_loses_no_answer_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(20)]
    process.kill()
    acknowledged += map(int, process.stdout.read().split())
    assert process.wait() == -signal.SIGKILL
    answers = Store(path, CLASSES, "texts").answers()
    assert [answer.text for answer in answers[: len(acknowledged)]] == acknowledged
    assert all(answer.label == answer.text % 2 for answer in answers)
    assert len(answers) - len(acknowledged) in (0, 1)  # one may be on disk that was not told yet


def test_answers_come_back_in_order_and_the_last_one_can_be_undone(tmp_path: Path) -> None:
    store = Store(tmp_path / "new" / "labels.sqlite", CLASSES, "texts")
    given = [Answer(7, 1, False), Answer(3, None, True), Answer(5, 0, True)]
    for answer in given:
        store.add(answer)
    assert store.undo() == given[-1]
    store.add(Answer(5, 1, True))
    store.close()
    store = Store(tmp_path / "new" / "labels.sqlite", CLASSES, "texts")
    assert store.answers() == [*given[:2], Answer(5, 1, True)]
    assert [store.undo() for _ in range(4)] == [Answer(5, 1, True), given[1], given[0], None]


def test_who_opens_the_file_second_is_told_so_and_harms_nothing(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    first = Store(path, CLASSES, "texts")
    first.add(Answer(0, 1, False))
    with pytest.raises(UserError, match="another process has it open"):
        Store(path, CLASSES, "texts")
    first.add(Answer(1, 0, False))
    first.close()
    assert len(Store(path, CLASSES, "texts").answers()) == 2


@pytest.mark.parametrize(
    ("classes", "sha256", "told"),
    [
        (CLASSES, "others", "--texts: expected the texts that the labels in .* belong to"),
        (["spam", "ham"], "texts", "--classes: expected ham,spam, as in"),
    ],
)
def test_labels_of_other_texts_or_classes_are_not_added_to(
    tmp_path: Path, classes: list[str], sha256: str, told: str
) -> None:
    path = tmp_path / "labels.sqlite"
    Store(path, CLASSES, "texts").close()
    with pytest.raises(UserError, match=told):
        Store(path, classes, sha256)
    Store(path, CLASSES, "texts").close()  # it let go of the file


def test_other_files_are_refused_and_left_as_they_are(tmp_path: Path) -> None:
    text, other = tmp_path / "a.sqlite", tmp_path / "b.sqlite"
    text.write_text("text,label\n" * 100)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE answers (text)")
    connection.close()
    before = text.read_bytes(), other.read_bytes()
    with pytest.raises(UserError, match="it is no file of labels, or damaged"):
        Store(text, CLASSES, "texts")
    with pytest.raises(UserError, match="is no file of labels of this version"):
        Store(other, CLASSES, "texts")
    assert (text.read_bytes(), other.read_bytes()) == before
    with pytest.raises(UserError, match="it can't be read or written"):
        Store(tmp_path, CLASSES, "texts")


def test_full_disk_is_told_and_loses_no_answer_before_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "labels.sqlite", CLASSES, "texts")
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count={pages + 1}")  # what SQLite takes for a full disk
    kept = -1

    def add_until_full() -> None:
        nonlocal kept
        for _ in range(10_000):
            store.add(Answer(kept + 1, 0, False))
            kept += 1

    with pytest.raises(
        UserError, match=r"the disk is full\. Make room\. This answer was not kept; all before it are\."
    ):
        add_until_full()
    with pytest.raises(UserError, match=r"None of the given labels were kept"):
        store.give({f"text {i} " * 50: 0 for i in range(1000)})
    store._connection.execute("PRAGMA max_page_count=1000000")
    store.add(Answer(kept + 1, 1, False))  # once there is room, it goes on
    store.close()
    answers = Store(tmp_path / "labels.sqlite", CLASSES, "texts").answers()
    assert [answer.text for answer in answers] == list(range(kept + 2))
    assert answers[-1].label == 1


def test_given_labels_stay_as_they_were_first_given(tmp_path: Path) -> None:
    store = Store(tmp_path / "labels.sqlite", CLASSES, "texts")
    store.give({"a": 0, "b": 1})
    store.give({"b": 0, "c": 1})
    assert store.given() == {"a": 0, "b": 1, "c": 1}
