"""What a classifier is worth on messages with known labels, as numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp, lgamma, log
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from gpt_classifier.confusion import Confusion, over_thresholds
from gpt_classifier.errors import UserError
from gpt_classifier.inference.predictor import Predictor
from gpt_classifier.tasks import MOST_SCORES, too_many_scores

BINS = 15  # of the calibration error, equally wide
RESAMPLES = 2000  # of the bootstrap, fewer where messages times classes times resamples exceed:
WORK = 4e8
SURE = 0.05  # the largest p-value of a difference that is taken for one
EXAMPLES = 2  # messages of two classes that are confused

PART = 2**22  # numbers of a matrix of logits that are copied at a time


def in_parts(logits: torch.Tensor) -> list[slice]:
    """The rows of `(N, C)` logits in parts, so that what is computed from them needs no copy of all."""
    rows = max(1, PART // logits.shape[1])
    return [slice(start, min(start + rows, len(logits))) for start in range(0, len(logits), rows)]


@dataclass(frozen=True)
class Predictions:
    """A classifier's answers to messages whose labels are known.

    Args:
        texts: N messages.
        labels: `(N,)` true class ids.
        logits: `(N, C)` float32, before calibration.
        lengths: `(N,)` tokens of each message, as they were read.
        class_names: C names.
    """

    texts: Sequence[str]
    labels: np.ndarray
    logits: np.ndarray
    lengths: np.ndarray
    class_names: list[str]

    @cached_property
    def predicted(self) -> np.ndarray:
        return self.logits.argmax(axis=1)

    @cached_property
    def confusion(self) -> Confusion:
        return Confusion(self.labels, self.predicted, len(self.class_names))

    @cached_property
    def right(self) -> np.ndarray:
        return self.predicted == self.labels

    def probabilities(self, temperature: float = 1.0) -> np.ndarray:
        """`(N, C)`."""
        return torch.from_numpy(self.logits / temperature).softmax(dim=-1).numpy()

    def confidence(self, temperature: float = 1.0) -> np.ndarray:
        """`(N,)`: the largest probability of each message."""
        logits = torch.from_numpy(self.logits)
        return torch.cat([(logits[part] / temperature).softmax(-1).amax(-1) for part in in_parts(logits)]).numpy()

    def losses(self, temperature: float = 1.0) -> np.ndarray:
        """`(N,)`: cross-entropy of each message in nats."""
        logits, labels = torch.from_numpy(self.logits), torch.from_numpy(self.labels)
        parts = [
            F.cross_entropy(logits[part] / temperature, labels[part], reduction="none") for part in in_parts(logits)
        ]
        return torch.cat(parts).numpy()


def predictions(predictor: Predictor, texts: Sequence[str], labels: Sequence[Any]) -> Predictions:
    """Ask a classifier for all messages.

    Raises:
        UserError: a label that the classifier does not know.
    """
    class_names = predictor.classes
    names = [str(label) for label in labels]
    unknown = sorted(set(names) - set(class_names))
    if unknown:
        raise UserError(
            f"The messages have labels that the classifier was not trained for: {', '.join(unknown[:5])}. "
            f"It knows: {', '.join(class_names[:20])}."
        )
    rows = predictor.token_rows(texts)
    lengths = np.array([len(row) for row in rows])
    place = {name: i for i, name in enumerate(class_names)}
    ids = np.array([place[name] for name in names])
    return Predictions(texts, ids, predictor.logits(texts, rows), lengths, class_names)


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % bootstrap interval over messages; `nan` where it is not defined."""

    value: float
    low: float
    high: float


def estimates(found: Predictions, temperature: float = 1.0, seed: int = 0) -> dict[str, Estimate]:
    """Accuracy, macro F1, AUROC and loss, with percentile bootstrap intervals (Efron, 1979).

    Where all messages are classified rightly, or none, resampling can't tell how far accuracy may be from that; its
    interval is then the exact one of Clopper and Pearson (1934). AUROC is `nan` where it would take too long
    (`tasks.too_many_scores`).

    Args:
        found: at least one message.
        temperature: of the probabilities.
        seed: of the resampling.
    """
    n, classes = found.logits.shape
    predicted, right = found.predicted, found.right
    losses = found.losses(temperature)
    columns: Sequence[int] = range(classes) if classes > 2 else [1]
    if too_many_scores(n, classes):
        columns = []
    probabilities = found.probabilities(temperature) if columns else np.empty((n, 0))
    ranks = [(np.unique(probabilities[:, c], return_inverse=True)[1], found.labels == c) for c in columns]
    random = np.random.default_rng(seed)
    samples: dict[str, list[float]] = {"accuracy": [], "macro F1": [], "AUROC": [], "loss": []}
    resamples = int(np.clip(WORK / (n * max(1, len(ranks))), 100, RESAMPLES))
    for i in range(resamples + 1):
        weights = np.ones(n) if i == 0 else np.bincount(random.integers(0, n, n), minlength=n).astype(float)
        samples["accuracy"].append(float(weights @ right / n))
        samples["macro F1"].append(_macro_f1(found.labels, predicted, weights, classes))
        samples["AUROC"].append(_auroc(ranks, weights))
        samples["loss"].append(float(weights @ losses / n))
    result = {}
    for name, values in samples.items():
        defined = [value for value in values[1:] if not np.isnan(value)]
        low, high = np.percentile(defined, [2.5, 97.5]) if defined else (np.nan, np.nan)
        result[name] = Estimate(values[0], float(low), float(high))
    if right.all():
        result["accuracy"] = Estimate(1.0, 0.025 ** (1 / n), 1.0)
    elif not right.any():
        result["accuracy"] = Estimate(0.0, 0.0, 1 - 0.025 ** (1 / n))
    return result


def _macro_f1(labels: np.ndarray, predicted: np.ndarray, weights: np.ndarray, classes: int) -> float:
    both = np.bincount(labels, weights, classes) + np.bincount(predicted, weights, classes)
    right = np.bincount(labels, weights * (labels == predicted), classes)
    return float((2 * right[both > 0] / both[both > 0]).mean())


def _auroc(ranks: list[tuple[np.ndarray, np.ndarray]], weights: np.ndarray) -> float:
    """Averaged over the classes that have messages, and others beside them; `nan` where none does."""
    parts = []
    for place, positive in ranks:
        ups, downs = np.bincount(place, weights * positive), np.bincount(place, weights * ~positive)
        if ups.sum() and downs.sum():
            below = np.cumsum(downs) - downs
            parts.append((ups * (below + downs / 2)).sum() / ups.sum() / downs.sum())  # ties count half
    return float(np.mean(parts)) if parts else float("nan")


def calibration_error(found: Predictions, temperature: float = 1.0) -> float:
    """Expected calibration error over `BINS` equal bins of the confidence (Guo et al., 2017)."""
    bins = reliability(found, temperature, BINS)
    return sum(count * abs(confidence - accuracy) for confidence, accuracy, count in bins) / len(found.texts)


def reliability(found: Predictions, temperature: float = 1.0, bins: int = 10) -> list[tuple[float, float, int]]:
    """Mean confidence, accuracy and number of messages of each bin of the confidence that has any."""
    confidence = found.confidence(temperature)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        (float(confidence[place == i].mean()), float(found.right[place == i].mean()), int((place == i).sum()))
        for i in range(bins)
        if (place == i).any()
    ]


def fit_temperature(found: Predictions) -> float | None:
    """The temperature that minimises the loss (Guo et al., 2017, "On Calibration of Modern Neural Networks").

    Args:
        found: of validation messages. Where messages times classes are above `tasks.MOST_SCORES`, every second of
            them, or every third, and so on, is asked: one number takes no more.

    Returns:
        A number from 0.05 to 20. `None` where there is no such minimum, as without a mistake among the messages: the
        loss would have it ever smaller.
    """
    if found.right.all():
        return None
    every = -(-found.logits.size // MOST_SCORES)
    logits, labels = torch.from_numpy(found.logits[::every]).double(), torch.from_numpy(found.labels[::every])
    low, high = np.log(0.05), np.log(20)
    best = 0.0
    for _ in range(4):  # the loss has one minimum over 1/T: each round looks closer at it
        grid = np.linspace(low, high, 21)
        losses = [F.cross_entropy(logits / np.exp(point), labels).item() for point in grid]
        place = int(np.argmin(losses))
        best, width = grid[place], grid[1] - grid[0]
        low, high = best - width, best + width
    return float(np.exp(best)) if 0.051 < np.exp(best) < 19.9 else None


@dataclass(frozen=True)
class Threshold:
    """What asking for a precision costs.

    Args:
        wanted: precision that was asked for.
        threshold: the lowest probability of the class that reached it where it was chosen; `None` if none did.
        precision: there it is on the messages that are reported; `nan` if none is flagged.
        recall: part of the class's messages that are flagged.
        flagged: number of messages.
    """

    wanted: float
    threshold: float | None
    precision: float
    recall: float
    flagged: int


def thresholds(
    choose_on: Predictions, report_on: Predictions, positive: int, temperature: float = 1.0
) -> list[Threshold]:
    """For some precisions of a class the threshold that reaches it, and what that gives on other messages."""
    chosen, reported = (p.probabilities(temperature)[:, positive] for p in (choose_on, report_on))
    candidates, right_above, flagged_above = over_thresholds(chosen, choose_on.labels == positive)
    precisions = right_above / flagged_above
    rows = []
    for wanted in (0.9, 0.95, 0.98, 0.99, 1.0):
        reaching = candidates[precisions >= wanted]
        if not len(reaching):
            rows.append(Threshold(wanted, None, float("nan"), 0.0, 0))
            continue
        flagged = reported >= reaching[0]
        right = (report_on.labels == positive) & flagged
        precision = float(right.sum() / flagged.sum()) if flagged.any() else float("nan")
        recall = float(right.sum() / max(1, (report_on.labels == positive).sum()))
        rows.append(Threshold(wanted, float(reaching[0]), precision, recall, int(flagged.sum())))
    return rows


def coverage(found: Predictions, temperature: float = 1.0) -> list[tuple[float, float, float]]:
    """What leaving unsure messages to people gives: confidence, part of the messages that reach it, their accuracy."""
    confidence = found.confidence(temperature)
    rows = []
    for wanted in (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99):
        sure = confidence >= wanted
        if sure.any():
            rows.append((wanted, float(sure.mean()), float(found.right[sure].mean())))
    return rows


def by_length(found: Predictions, groups: int = 5) -> list[tuple[int, int, int, float]]:
    """Shortest and longest message in tokens, number of messages and accuracy, for groups of like size."""
    order = np.argsort(found.lengths, kind="stable")
    edges = sorted(set(np.quantile(found.lengths, np.linspace(0, 1, groups + 1)[1:]).astype(int).tolist()))
    rows, start = [], 0
    for edge in edges:
        end = int(np.searchsorted(found.lengths[order], edge, side="right"))
        part = order[start:end]
        if len(part):
            lengths = found.lengths[part]
            rows.append((int(lengths.min()), int(lengths.max()), len(part), float(found.right[part].mean())))
        start = end
    return rows


@dataclass(frozen=True)
class ConfusedPair:
    """Two classes of which one is taken for the other.

    Args:
        true: class.
        predicted: class.
        messages: that this happens to.
        part: of the messages of the true class.
        examples: the most confident of them, at most `EXAMPLES`.
    """

    true: str
    predicted: str
    messages: int
    part: float
    examples: list[str]


def confusions(found: Predictions, temperature: float = 1.0, most: int = 20) -> list[ConfusedPair]:
    """The most frequent mistakes by true and predicted class."""
    names, counted = found.class_names, found.confusion
    place = {name: i for i, name in enumerate(names)}
    wrong = mistakes(found, temperature)
    rows = []
    for true, predicted, count in counted.pairs(names)[:most]:
        i, j = place[true], place[predicted]
        own = wrong[(found.labels[wrong] == i) & (found.predicted[wrong] == j)][:EXAMPLES]
        rows.append(
            ConfusedPair(true, predicted, count, count / int(counted.support[i]), [found.texts[int(k)] for k in own])
        )
    return rows


def mistakes(found: Predictions, temperature: float = 1.0) -> np.ndarray:
    """`(M,)`: places of the messages with a wrong prediction, the most confident first."""
    wrong = np.flatnonzero(~found.right)
    return wrong[np.argsort(-found.confidence(temperature)[wrong], kind="stable")]


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact test (1947): how likely two classifiers that are equally good differ as much by chance.

    Args:
        only_first: messages that the first alone has right.
        only_second: and the second alone.
    """
    differing = only_first + only_second
    tail = sum(
        exp(lgamma(differing + 1) - lgamma(k + 1) - lgamma(differing - k + 1) - differing * log(2))
        for k in range(min(only_first, only_second) + 1)
    )
    return min(1.0, 2 * tail)
