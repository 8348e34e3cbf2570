"""Linear models of n-grams: which is best is chosen on messages that they were not fitted to."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from gpt_classifier.errors import UserError
from gpt_classifier.evaluation.baselines import CHARACTER_BYTES, FEW, MANY, MARGINS, MOST_MEMORY, WORD_BYTES, families
from gpt_classifier.ngrams import Counted, NGrams, Part

SOON = 50_000  # characters of training texts: above, trying all that is counted for each fold takes minutes


@dataclass(frozen=True)
class Candidate:
    """What may be fitted.

    Args:
        counted: what is counted, side by side.
        C: of LinearSVC.
    """

    counted: tuple[Counted, ...]
    C: float

    def __str__(self) -> str:
        return f"{' and '.join(map(str, self.counted))}, C={self.C:g}"


class Search:
    """The candidates of `evaluation.baselines`' families of words, of characters, and of both at their best.

    Args:
        texts: that will be fitted to; with many of them slow candidates are left out.

    Raises:
        UserError: there are so many that none can be fitted, or scikit-learn is not installed.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        characters = sum(map(len, texts))
        if WORD_BYTES * characters > MOST_MEMORY:
            raise UserError(
                f"with_ngrams: expected training texts of at most {MOST_MEMORY / WORD_BYTES / 1e6:,.0f} million "
                f"characters, as n-grams of more take too much memory, but they have {characters / 1e6:,.0f} million. "
                f"Leave it out, or set data.train_size."
            )
        known = families(0 if characters < SOON else MANY + 1)
        names = ["words"] if CHARACTER_BYTES * characters > MOST_MEMORY else ["words", "characters"]
        self.kinds = [[Counted.by(vectorizer) for _, vectorizer in known[name].vectorizers] for name in names]

    def best(self, loss: Callable[[Sequence[Candidate]], Sequence[float]]) -> Candidate:
        """The candidate with the lowest loss, among equals the simplest.

        Args:
            loss: of each of several candidates.
        """
        found = [_lowest([(counted,) for counted in kind], loss) for kind in self.kinds]
        if len(found) > 1:
            found.append(_lowest([tuple(one.counted[0] for one, _ in found)], loss))
        return min(found, key=lambda one: one[1])[0]


def _lowest(
    sets: Sequence[tuple[Counted, ...]], loss: Callable[[Sequence[Candidate]], Sequence[float]]
) -> tuple[Candidate, float]:
    tried = [Candidate(counted, C) for counted, C in product(sets, MARGINS)]
    return min(zip(tried, loss(tried), strict=True), key=lambda one: one[1])


@dataclass(frozen=True)
class Examples:
    """What is fitted to.

    Args:
        texts: N of them.
        labels: their N classes.
        weights: `(N,)`, how much each counts; `None` for all alike.
    """

    texts: Sequence[str]
    labels: Sequence[str]
    weights: np.ndarray | None = None


class Counts:
    """N-grams of training texts, counted once for candidates that count the same one after the other.

    Args:
        train: messages.
        class_names: of all C classes.

    Raises:
        UserError: when it counts, that the texts have nothing to count.
    """

    def __init__(self, train: Examples, class_names: Sequence[str]) -> None:
        self.train = train
        self.class_names = class_names
        self._counted: dict[Counted, tuple[Part, Any]] = {}

    def fit(self, candidate: Candidate) -> NGrams:
        """A candidate fitted to the training texts."""
        from scipy.sparse import hstack
        from sklearn.svm import LinearSVC

        self._counted = {one: counts for one, counts in self._counted.items() if one in candidate.counted}
        parts, features = zip(*map(self._count, candidate.counted), strict=True)
        with warnings.catch_warnings(action="ignore"):  # one that has not converged: other texts judge it
            classifier = LinearSVC(C=candidate.C, random_state=0)
            classifier.fit(hstack(features, format="csr"), self.train.labels, self.train.weights)
        return NGrams.of(parts, classifier, self.class_names)

    def margins(self, tried: Sequence[Candidate], texts: Sequence[str]) -> list[np.ndarray]:
        """What each candidate says of other texts, `(N, C)`."""
        found = []
        seen: dict[Counted, Any] = {}
        for candidate in tried:
            fitted = self.fit(candidate)
            seen = {
                part.counted: seen[part.counted] if part.counted in seen else part.features(texts)
                for part in fitted.parts
            }
            found.append(fitted.margins_of(list(seen.values())))
        self._counted = {}
        return found

    def _count(self, counted: Counted) -> tuple[Part, Any]:
        if counted not in self._counted:
            few = sum(map(len, self.train.texts)) < FEW
            vectorizer = counted.vectorizer(min_df=1 if few else 2)  # what occurs once is most of what is kept
            try:
                features = vectorizer.fit_transform(self.train.texts)
            except ValueError as error:
                raise UserError(f"with_ngrams: the training texts have no {counted}. Leave it out.") from error
            self._counted[counted] = Part.of(counted, vectorizer), features
        return self._counted[counted]
