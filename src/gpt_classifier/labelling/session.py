"""One labelling session: which text is next, what was answered, and a classifier that follows in the background."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from gpt_classifier.data.prepare import fold
from gpt_classifier.errors import UserError, first_line
from gpt_classifier.labelling.collection import Collection
from gpt_classifier.labelling.evidence import STABLE_FITS, STEP, Evidence, kappa, measure
from gpt_classifier.labelling.proposals import propose
from gpt_classifier.labelling.store import Answer, Store

log = logging.getLogger(__name__)

RESERVED = 5  # one text of so many is kept aside to measure on, and one of so many that are shown is one of these
REFIT = 10  # answers after which the classifier is fitted again
AHEAD = 25  # texts that are proposed at once: more than are answered until the next fit


class Model(Protocol):
    """What learns: see `linear.LinearModel`."""

    def prepare(self, progress: Callable[[float], None], stopped: Callable[[], bool]) -> np.ndarray:
        """Look at all texts, once.

        Args:
            progress: is told which part is done, from 0 to 1.
            stopped: asked now and then whether to give up.

        Returns:
            `(N, D)`, a point for each text; like texts are near each other.
        """

    def probabilities(self, texts: Sequence[int], labels: Sequence[int]) -> np.ndarray:
        """Of the classes of all texts, `(N, C)`, of a classifier that was fitted to some of them."""


class Outdated(Exception):
    """An answer to another text than the one that is asked: it was answered in another tab."""


@dataclass(frozen=True)
class Fitted:
    """What the last fit said.

    Args:
        trained: labels that it was fitted to.
        predicted: `(N,)` classes.
        half: the same of a fit to the first half of the labels, or `None`.
        agreements: kappa of the last pairs of fits.
        seconds: that it took, with the fits that it was compared with.
    """

    trained: int
    predicted: np.ndarray
    half: np.ndarray | None
    agreements: list[float]
    seconds: float


@dataclass(frozen=True)
class Status:
    """Where a session stands.

    Args:
        text: the place of the text that is asked; `None` where all are answered.
        content: the text itself.
        answered: how many answers there are, those that skip among them.
        skipped: how many of them skip.
        left: texts that were not asked yet.
        counts: labels by class, of all that were given.
        last: the last answers, the newest first: beginning of the text, and the class or an empty string.
        ready: part of the texts whose activations are computed, from 0 to 1.
        fitting: whether the classifier is being fitted.
        seconds: of the last fit; `None` before the first.
        evidence: how good it is; `None` before the first fit.
        random_only: whether only texts of the random share are asked.
        failure: why the classifier can't be fitted, or an empty string; labelling goes on without.
    """

    text: int | None
    content: str
    answered: int
    skipped: int
    left: int
    counts: dict[str, int]
    last: list[tuple[str, str]]
    ready: float
    fitting: bool
    seconds: float | None
    evidence: Evidence | None
    random_only: bool
    failure: str


class Session:
    """Labels of one collection, asked one after the other.

    One text of `RESERVED` is kept aside before anything is asked, drawn at random: nothing is trained on it, and those
    of them that are labelled are an honest test set. Whoever labels is not told which they are. The others are proposed
    by the classifier. All methods may be called from several threads.

    Args:
        collection: the texts.
        classes: names.
        store: that keeps the answers, and has those of earlier sessions.
        model: makes what learns from the session's texts and class names.
        seed: of what is kept aside and of proposals; the same for a collection in every session.
    """

    def __init__(
        self,
        collection: Collection,
        classes: Sequence[str],
        store: Store,
        model: Callable[[list[str], list[str]], Model],
        seed: int = 0,
    ) -> None:
        self.collection, self.classes, self.store, self.seed = collection, list(classes), store, seed
        self.random_only = False
        self.failure = ""
        self._lock = threading.RLock()
        self._answers = store.answers()
        self._given: dict[int, int] = {}
        self.texts = [*collection.texts, *self._place_given()]
        order = np.random.default_rng([seed, int(collection.sha256[:12], 16)]).permutation(len(collection.texts))
        self._reserved = order[: len(order) // RESERVED].tolist()
        self._others = order[len(order) // RESERVED :].tolist()
        self._kept_aside = frozenset(self._reserved)
        self._proposed: list[int] = []
        self._known = {answer.text for answer in self._answers} | self._given.keys()
        self.model = model(self.texts, self.classes)
        self._points: np.ndarray | None = None
        self._part = 0.0
        self._fits: dict[tuple[tuple[int, int], ...], np.ndarray] = {}
        self._fitted: Fitted | None = None
        self._fitted_at = 0
        self._fitting = False
        self._thread: threading.Thread | None = None
        self._wake, self._stop = threading.Event(), threading.Event()
        self._current = self._next()

    def _place_given(self) -> list[str]:
        """Find the labels that were given before among the texts; texts that are not among them are returned."""
        places = {fold(text): place for place, text in enumerate(self.collection.texts)}
        more: list[str] = []
        answered = {answer.text for answer in self._answers}
        for text, label in self.store.given().items():
            place = places.setdefault(fold(text), len(self.collection.texts) + len(more))
            if place == len(self.collection.texts) + len(more):
                more.append(text)
            if place not in answered:
                self._given.setdefault(place, label)
        return more

    # answers

    def answer(self, text: int, label: int | None) -> None:
        """Keep an answer, and go on to the next text; on disk when this returns.

        Args:
            text: the place of the text that is asked.
            label: the place of its class; `None` skips it.

        Raises:
            Outdated: another text is asked.
            UserError: there is no such class, or it could not be written.
        """
        if label is not None and not 0 <= label < len(self.classes):
            raise UserError(f"label: expected a class from 0 to {len(self.classes) - 1}, but it is {label}.")
        with self._lock:
            if text != self._current:
                raise Outdated
            answer = Answer(text, label, text in self._kept_aside)
            self.store.add(answer)
            self._answers.append(answer)
            self._known.add(text)
            self._current = self._next()
            self._wake_if_due()

    def undo(self) -> bool:
        """Take the last answer back and ask its text again; `False` where there is none.

        Raises:
            UserError: it could not be written.
        """
        with self._lock:
            answer = self.store.undo()
            if answer is None:
                return False
            self._answers.pop()
            self._known.discard(answer.text)
            self._current = answer.text
            return True

    def ask_random_only(self, wanted: bool) -> None:
        """Whether only texts of the random share are asked, which make the interval narrower; from the next text on."""
        with self._lock:
            self.random_only = wanted

    def _next(self) -> int | None:
        """The text to ask."""
        asked = sum(answer.random for answer in self._answers)
        due = self.random_only or asked < (len(self._answers) + 1) // RESERVED
        proposed = (self._proposed, self._others)
        for texts in (self._reserved, *proposed) if due else (*proposed, self._reserved):
            for text in texts:
                if text not in self._known:
                    return text
        return None

    def training(self) -> list[tuple[int, int]]:
        """Texts and their classes that are trained on: those that were given, then in the order of the answers."""
        with self._lock:
            answers = [(a.text, a.label) for a in self._answers if not a.random and a.label is not None]
            return [*self._given.items(), *answers]

    def random_share(self) -> list[tuple[int, int]]:
        """Texts and their classes that are measured on."""
        with self._lock:
            return [
                (answer.text, answer.label) for answer in self._answers if answer.random and answer.label is not None
            ]

    def status(self) -> Status:
        """Where the session stands."""
        with self._lock:
            skipped = sum(answer.label is None for answer in self._answers)
            labels = [label for _, label in (*self.training(), *self.random_share())]
            last = [
                (self.texts[answer.text][:80], "" if answer.label is None else self.classes[answer.label])
                for answer in self._answers[:-6:-1]
            ]
            return Status(
                text=self._current,
                content="" if self._current is None else self.texts[self._current],
                answered=len(self._answers),
                skipped=skipped,
                left=len(self.texts) - len(self._known),
                counts={name: labels.count(c) for c, name in enumerate(self.classes)},
                last=last,
                ready=self._part,
                fitting=self._fitting,
                seconds=self._fitted.seconds if self._fitted else None,
                evidence=self.evidence(),
                random_only=self.random_only,
                failure=self.failure,
            )

    def evidence(self) -> Evidence | None:
        """How good the classifier is; `None` before the first fit."""
        with self._lock:
            fitted, share = self._fitted, self.random_share()
            if fitted is None:
                return None
            texts, truth = [text for text, _ in share], [label for _, label in share]
            seen = {label for _, label in self.training()}
            return measure(
                truth,
                fitted.predicted[texts],
                None if fitted.half is None else fitted.half[texts],
                fitted.agreements,
                fitted.trained,
                self.classes,
                [name for c, name in enumerate(self.classes) if c not in seen],
            )

    # the classifier

    def start(self) -> None:
        """Prepare and fit the classifier in the background, again after each `REFIT` answers, until `close`."""
        self._thread = threading.Thread(target=self._work, name="labelling", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End what runs in the background, and let others open the file of answers."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self.store.close()

    def prepare(self) -> None:
        """Compute the activations of all texts, and propose the first ones by them."""
        self._points = self.model.prepare(self._told, self._stop.is_set)
        self._part = 1.0
        self.fit()

    def fit(self) -> None:
        """Fit to all labels that there are, compare with earlier fits, and propose the next texts."""
        assert self._points is not None, "prepare comes first"
        began = time.perf_counter()
        with self._lock:
            training, number = tuple(self.training()), len(self._answers)
            candidates = np.array([text for text in self._others if text not in self._known], dtype=np.int64)
        found = None
        if len({label for _, label in training}) > 1:
            found = self._probabilities(training)
        random = np.random.default_rng([self.seed, len(training)])
        labelled = np.array([text for text, _ in training], dtype=np.int64)
        proposed = propose(self._points, found, candidates, labelled, AHEAD, random)
        fitted = None if found is None else self._compared(training, found.argmax(axis=1), began)
        with self._lock:
            self._proposed, self._fitted, self._fitted_at = proposed, fitted, number

    def _probabilities(self, training: tuple[tuple[int, int], ...]) -> np.ndarray:
        return self.model.probabilities([text for text, _ in training], [label for _, label in training])

    def _compared(self, training: tuple[tuple[int, int], ...], predicted: np.ndarray, began: float) -> Fitted:
        """A fit beside those to the first labels, which are kept for the next time."""
        newest = len(training) // STEP * STEP
        ends = [newest - STEP * back for back in range(STABLE_FITS, -1, -1)]
        wanted = [*(end for end in ends if end > 0), len(training) // 2]
        known, self._fits = self._fits | {training: predicted}, {training: predicted}
        for end in wanted:
            part = training[:end]
            if part not in known and len({label for _, label in part}) > 1:
                known[part] = self._probabilities(part).argmax(axis=1)
            if part in known:
                self._fits[part] = known[part]
        own = slice(len(self.collection.texts))
        fits = [self._fits.get(training[:end]) if end > 0 else None for end in ends]
        agreements = [
            kappa(one[own], other[own]) for one, other in pairwise(fits) if one is not None and other is not None
        ]
        half = self._fits.get(training[: len(training) // 2]) if len(training) >= 2 * STEP else None
        return Fitted(len(training), predicted, half, agreements, time.perf_counter() - began)

    def _told(self, part: float) -> None:
        self._part = min(part, 0.99)

    def _wake_if_due(self) -> None:
        waiting = sum(text not in self._known for text in self._proposed)
        runs_short = len(self._proposed) == AHEAD and waiting < REFIT // 2
        if runs_short or abs(len(self._answers) - self._fitted_at) >= REFIT:
            self._wake.set()

    def _work(self) -> None:
        try:
            self.prepare()
            while True:
                self._wake.wait()
                self._wake.clear()
                if self._stop.is_set():
                    return
                self._fitting = True
                self.fit()
                self._fitting = False
        except Exception as error:
            if not self._stop.is_set():
                log.exception("labelling goes on without a classifier")
                self.failure = str(error) if isinstance(error, UserError) else first_line(error)
        finally:
            self._fitting = False
