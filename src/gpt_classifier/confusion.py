"""Counts of texts by true and predicted class, and what is measured from them."""

from collections.abc import Sequence
from math import sqrt
from typing import Any, NamedTuple

import numpy as np

MOST_CLASSES = 50
"""Beyond, a confusion matrix is told as its pairs, and figures of single classes belong into a table of their own."""
MOST_PAIRS = 100  # pairs in metrics.json and evaluation.json; a table beside them has all
MOST_DRAWN = 30  # classes in a picture, where there are more than MOST_CLASSES


class Drawn(NamedTuple):
    """What a picture of a confusion matrix shows.

    Args:
        matrix: `(K, K)` counts, rows true, columns predicted.
        support: `(K,)` texts of each class, also those that were taken for a class that is not shown.
        names: K classes.
        note: what must be said of the choice of classes, if any.
    """

    matrix: np.ndarray
    support: np.ndarray
    names: list[str]
    note: str = ""


class Confusion:
    """A confusion matrix of which only the cells that have texts are kept: its size is that of the texts.

    Args:
        targets: `(N,)` true class ids.
        predicted: `(N,)` predicted class ids.
        classes: C, the number of classes.
        counts: `(N,)` texts of each row; `None` for one each.

    Attributes:
        true, predicted: `(P,)` class ids of the P cells that have texts, row by row.
        counts: `(P,)` their texts.
        right: `(C,)` texts of each class that were predicted as it.
        support: `(C,)` texts of each class.
        claimed: `(C,)` texts that were predicted as each class.
    """

    def __init__(
        self, targets: np.ndarray, predicted: np.ndarray, classes: int, counts: np.ndarray | None = None
    ) -> None:
        places = np.asarray(targets, dtype=np.int64) * classes + np.asarray(predicted, dtype=np.int64)
        cells, cell_of = np.unique(places, return_inverse=True)
        self.classes = classes
        self.true, self.predicted = np.divmod(cells, classes)
        self.counts = np.bincount(cell_of, counts, len(cells)).astype(np.int64)
        same = self.true == self.predicted
        self.right = self._by_class(self.true[same], self.counts[same])
        self.support = self._by_class(self.true, self.counts)
        self.claimed = self._by_class(self.predicted, self.counts)

    def _by_class(self, ids: np.ndarray, counts: np.ndarray) -> np.ndarray:
        return np.bincount(ids, counts, self.classes).astype(np.int64)

    @classmethod
    def of_metrics(cls, metrics: dict[str, Any], class_names: Sequence[str]) -> "Confusion | None":
        """The counts that the metrics of a split tell (`tasks.SingleLabel.metrics`), `None` if they tell none."""
        if "confusion_matrix" in metrics:
            matrix = np.array(metrics["confusion_matrix"])
            true, predicted = np.nonzero(matrix)
            return cls(true, predicted, len(class_names), matrix[true, predicted])
        if "confusion_pairs" not in metrics:
            return None
        place = {name: i for i, name in enumerate(class_names)}
        wrong = [(place[true], place[predicted], count) for true, predicted, count in metrics["confusion_pairs"]]
        right = [(i, i, round(metrics["recall"][n] * metrics["support"][n])) for n, i in place.items()]
        cells = np.array([*wrong, *(cell for cell in right if cell[2])]).reshape(-1, 3)
        return cls(cells[:, 0], cells[:, 1], len(class_names), cells[:, 2])

    @property
    def precision(self) -> np.ndarray:
        """`(C,)`; 0 for a class that is never predicted."""
        return self.right / np.maximum(self.claimed, 1)

    @property
    def recall(self) -> np.ndarray:
        """`(C,)`; 0 for a class without texts."""
        return self.right / np.maximum(self.support, 1)

    @property
    def f1(self) -> np.ndarray:
        """`(C,)`; 0 for a class without texts that is never predicted."""
        return 2 * self.right / np.maximum(self.support + self.claimed, 1)

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that have texts or are predicted; `nan` without texts."""
        occurs = self.support + self.claimed > 0
        return float(self.f1[occurs].mean()) if occurs.any() else float("nan")

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that have texts; `nan` without texts."""
        occurs = self.support > 0
        return float(self.recall[occurs].mean()) if occurs.any() else float("nan")

    @property
    def mcc(self) -> float:
        """Matthews' correlation coefficient, for more than two classes Gorodkin's (2004); 0 where undefined."""
        n = float(self.counts.sum())
        support, claimed = self.support.astype(float), self.claimed.astype(float)
        covariance = n * self.right.sum() - support @ claimed
        spread = (n * n - claimed @ claimed) * (n * n - support @ support)
        return float(covariance / sqrt(spread)) if spread > 0 else 0.0

    def by_class(self, class_names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """`precision`, `recall`, `f1` and `support`, each by class name."""
        parts = {"precision": self.precision, "recall": self.recall, "f1": self.f1, "support": self.support}
        return {what: dict(zip(class_names, values.tolist(), strict=True)) for what, values in parts.items()}

    def pairs(self, class_names: Sequence[str]) -> list[list[Any]]:
        """`[true class, predicted class, texts]` of each kind of mistake, the most frequent first."""
        wrong = np.flatnonzero(self.true != self.predicted)
        wrong = wrong[np.argsort(-self.counts[wrong], kind="stable")]
        cells = zip(self.true[wrong].tolist(), self.predicted[wrong].tolist(), self.counts[wrong].tolist(), strict=True)
        return [[class_names[true], class_names[predicted], count] for true, predicted, count in cells]

    def matrix(self, chosen: np.ndarray | None = None) -> np.ndarray:
        """The dense matrix, rows true and columns predicted, of some class ids in their order; `None` for all C."""
        chosen = np.arange(self.classes) if chosen is None else chosen
        place = np.full(self.classes, -1)
        place[chosen] = np.arange(len(chosen))
        inside = (place[self.true] >= 0) & (place[self.predicted] >= 0)
        matrix = np.zeros((len(chosen), len(chosen)), dtype=np.int64)
        matrix[place[self.true[inside]], place[self.predicted[inside]]] = self.counts[inside]
        return matrix

    def told(self, class_names: Sequence[str]) -> dict[str, Any]:
        """`confusion_matrix`, or `confusion_pairs` of more than `MOST_CLASSES` classes."""
        if self.classes <= MOST_CLASSES:
            return {"confusion_matrix": self.matrix().tolist()}
        return {"confusion_pairs": self.pairs(class_names)}

    def drawn(self, class_names: Sequence[str]) -> Drawn:
        """What a picture shows: of more than `MOST_CLASSES` classes the `MOST_DRAWN` with the most mistakes."""
        if self.classes <= MOST_CLASSES:
            return Drawn(self.matrix(), self.support, list(class_names))
        mistakes = self.support + self.claimed - 2 * self.right
        chosen = np.sort(np.argsort(-mistakes, kind="stable")[:MOST_DRAWN])
        note = f"the {MOST_DRAWN} most confused of {self.classes:,} classes"
        return Drawn(self.matrix(chosen), self.support[chosen], [class_names[i] for i in chosen], note)

    def worst_first(self) -> np.ndarray:
        """Class ids by F1, the lowest first, among equals that with more texts; classes without texts at the end."""
        return np.lexsort((-self.support, self.f1, self.support == 0))


def over_thresholds(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is flagged where a text needs at least a certain score.

    Args:
        scores: `(N,)`, of one class.
        positive: `(N,)`, whether a text has that class.

    Returns:
        The K distinct scores, ascending, and for each as threshold the positive texts and all texts that reach it.
    """
    thresholds, place = np.unique(scores, return_inverse=True)
    right, flagged = (
        np.cumsum(np.bincount(place, weights, len(thresholds))[::-1])[::-1]
        for weights in (np.asarray(positive, dtype=float), None)
    )
    return thresholds, right, flagged
