"""A session on texts of a made-up language, with a model that needs no torch."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gpt_classifier.labelling.collection import Collection
from gpt_classifier.labelling.session import Session
from gpt_classifier.labelling.store import Store

CLASSES = ["ham", "spam"]
ONES = ["lunch", "train", "mother", "later", "home"]
OTHERS = ["prize", "winner", "cash", "urgent", "claim"]


def texts_of(number: int, seed: int = 0) -> list[str]:
    """Different texts, of which every third is spam."""
    random = np.random.default_rng(seed)
    texts = []
    for place in range(number):
        words = random.choice(OTHERS if place % 3 == 0 else ONES, 3)
        texts.append(f"{' '.join(words)} {'x' * (place % 26 + 1)} {'y' * (place // 26 + 1)}")
    return texts


def truth(text: str) -> int:
    """The class of such a text."""
    return int(text.split()[0] in OTHERS)


class Words:
    """A classifier that counts words: the nearest of the classes' mean points."""

    def __init__(self, texts: list[str], classes: list[str]) -> None:
        known = ONES + OTHERS
        self.points = np.array([[text.split().count(word) for word in known] for text in texts], dtype=np.float32)
        self.classes = classes
        self.fits = 0

    def prepare(self, progress: Callable[[float], None], stopped: Callable[[], bool]) -> np.ndarray:
        progress(0.5)
        return self.points

    def probabilities(self, texts: Sequence[int], labels: Sequence[int]) -> np.ndarray:
        self.fits += 1
        chosen, of = self.points[list(texts)], np.asarray(labels)
        found = np.full((len(self.points), len(self.classes)), -5.0)
        for c in set(labels):
            found[:, c] = -((self.points - chosen[of == c].mean(axis=0)) ** 2).sum(axis=1)
        found = np.exp(found)
        return found / found.sum(axis=1, keepdims=True)


def session_on(
    folder: Path, texts: Sequence[str], classes: Sequence[str] = CLASSES, model: Callable = Words
) -> Session:
    """A session whose answers are in `folder / "labels.sqlite"`."""
    collection = Collection.of(list(enumerate(texts)))
    return Session(collection, classes, Store(folder / "labels.sqlite", classes, collection.sha256), model)


def label(session: Session, number: int) -> list[int]:
    """Answer as many texts truly; which ones they were."""
    asked = []
    for _ in range(number):
        text = session.status().text
        assert text is not None
        asked.append(text)
        session.answer(text, truth(session.texts[text]))
    return asked
