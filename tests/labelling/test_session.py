"""A session asks the right texts, trains on none that it measures on, and goes on where it was left."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from sessions import CLASSES, Words, label, session_on, texts_of, truth

from gpt_classifier.errors import UserError
from gpt_classifier.labelling.session import RESERVED, Outdated

TEXTS = texts_of(200)


def test_nothing_is_trained_on_that_is_measured_on_and_each_text_is_asked_once(tmp_path: Path) -> None:
    session = session_on(tmp_path, TEXTS)
    session.prepare()
    asked: list[int] = []
    while session.status().text is not None:
        asked += label(session, 1)
        if len(asked) % 10 == 0:
            session.fit()
    assert sorted(asked) == list(range(200))
    trained, measured = dict(session.training()), dict(session.random_share())
    assert not trained.keys() & measured.keys()
    assert len(measured) == 200 // RESERVED
    shown = [sum(text in measured for text in asked[:n]) for n in range(10, 190, 10)]
    assert shown == [n // RESERVED for n in range(10, 190, 10)]  # as often at the beginning as at the end


def test_share_that_is_measured_on_does_not_depend_on_what_was_answered(tmp_path: Path) -> None:
    shares = []
    for name, fits in (("a", False), ("b", True)):
        session = session_on(tmp_path / name, TEXTS)
        session.prepare()
        for _ in range(15):
            label(session, 10)
            if fits:
                session.fit()
        shares.append(list(dict(session.random_share())))
    assert shares[0] == shares[1]


def test_first_texts_are_asked_before_anything_is_computed(tmp_path: Path) -> None:
    session = session_on(tmp_path, TEXTS)
    assert label(session, 12)
    assert session.status().evidence is None
    session.prepare()
    evidence = session.status().evidence
    assert evidence is not None
    assert evidence.trained == 10


def test_evidence_follows_the_answers(tmp_path: Path) -> None:
    session = session_on(tmp_path, TEXTS)
    session.prepare()
    for _ in range(5):
        label(session, 10)
        session.fit()
    evidence = session.evidence()
    assert evidence is not None
    assert evidence.accuracy is not None
    assert evidence.accuracy.value == 1
    assert evidence.accuracy.low == pytest.approx(0.6915, abs=1e-4)  # ten of ten
    assert evidence.agreement is not None
    assert evidence.agreement > 0.99


def test_session_goes_on_where_it_was_left(tmp_path: Path) -> None:
    session = session_on(tmp_path, TEXTS)
    session.prepare()
    label(session, 30)
    session.fit()
    before = session.training(), session.random_share(), session.evidence()
    session.close()
    again = session_on(tmp_path, TEXTS)
    again.prepare()
    assert (again.training(), again.random_share(), again.evidence()) == before


def test_undo_asks_the_same_text_again_and_then_goes_on(tmp_path: Path) -> None:
    session = session_on(tmp_path, TEXTS)
    asked = label(session, 3)
    following = session.status().text
    assert session.undo()
    assert session.undo()
    assert session.status().text == asked[1]
    session.answer(asked[1], None)
    assert session.status().text == asked[2]
    session.answer(asked[2], 1)
    assert session.status().text == following
    assert session.status().skipped == 1
    for _ in range(3):
        assert session.undo()
    assert not session.undo()
    assert session.status().answered == 0


def test_answer_to_a_text_that_another_tab_has_answered_changes_nothing(tmp_path: Path) -> None:
    session = session_on(tmp_path, TEXTS)
    (text,) = label(session, 1)
    before = session.status()
    with pytest.raises(Outdated):
        session.answer(text, 1 - truth(session.texts[text]))
    with pytest.raises(UserError, match="expected a class from 0 to 1"):
        session.answer(session.status().text or 0, 2)
    assert session.status() == before


def test_labels_that_were_given_are_trained_on_and_their_texts_not_asked(tmp_path: Path) -> None:
    session = session_on(tmp_path, TEXTS)
    session.store.give({TEXTS[0].upper(): 1, TEXTS[1]: 0, "a text from elsewhere": 0})
    session.close()
    session = session_on(tmp_path, TEXTS)
    assert dict(session.training()) == {0: 1, 1: 0, 200: 0}
    session.prepare()
    asked: list[int] = []
    while session.status().text is not None:
        asked += label(session, 1)
    assert sorted(asked) == list(range(2, 200))


def test_only_random_texts_are_asked_when_that_is_wanted(tmp_path: Path) -> None:
    session = session_on(tmp_path, TEXTS)
    session.ask_random_only(True)
    label(session, 11)
    assert len(session.random_share()) == 10  # the text that was shown before is asked first


class Broken(Words):
    def probabilities(self, texts: Sequence[int], labels: Sequence[int]) -> np.ndarray:
        raise UserError("out of memory")


def test_labelling_goes_on_where_the_classifier_fails(tmp_path: Path) -> None:
    session = session_on(tmp_path, TEXTS, model=Broken)
    label(session, 15)
    session.start()
    assert session._thread is not None
    session._thread.join(10)
    assert session.status().failure == "out of memory"
    label(session, 30)
    session.close()
    assert len(session_on(tmp_path, TEXTS).training()) == 36


class Slow(Words):
    """Waits to be let go on before it looks at the texts, and says when it has been fitted."""

    def __init__(self, texts: list[str], classes: list[str]) -> None:
        super().__init__(texts, classes)
        self.go_on, self.fitted = threading.Event(), threading.Semaphore(0)

    def prepare(self, progress: Callable[[float], None], stopped: Callable[[], bool]) -> np.ndarray:
        progress(0.5)
        assert self.go_on.wait(10)
        return self.points

    def probabilities(self, texts: Sequence[int], labels: Sequence[int]) -> np.ndarray:
        found = super().probabilities(texts, labels)
        self.fitted.release()
        return found


def test_answers_do_not_wait_for_what_is_computed_in_the_background(tmp_path: Path) -> None:
    session = session_on(tmp_path, TEXTS, model=Slow)
    model: Slow = session.model  # type: ignore[assignment]
    session.start()
    label(session, 20)
    assert session.status().ready <= 0.5
    assert model.fits == 0
    model.go_on.set()
    assert model.fitted.acquire(timeout=10)
    label(session, 10)
    assert model.fitted.acquire(timeout=10)
    session.close()
    assert session.status().ready == 1
    assert session.evidence() is not None


def test_classes_without_a_label_are_named(tmp_path: Path) -> None:
    session = session_on(tmp_path, TEXTS, classes=[*CLASSES, "other"])
    session.prepare()
    label(session, 30)
    session.fit()
    evidence = session.evidence()
    assert evidence is not None
    assert evidence.missing == ["other"]
