"""What a classifier is worth on messages with known labels, as numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

from gpt_classifier.errors import UserError
from gpt_classifier.inference.predictor import Predictor

BINS = 15  # of the calibration error, equally wide
RESAMPLES = 2000  # of the bootstrap, fewer where messages times classes times resamples exceed:
WORK = 4e8


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

    @property
    def predicted(self) -> np.ndarray:
        return self.logits.argmax(axis=1)

    @property
    def right(self) -> np.ndarray:
        return self.predicted == self.labels

    def probabilities(self, temperature: float = 1.0) -> np.ndarray:
        """`(N, C)`."""
        return torch.from_numpy(self.logits / temperature).softmax(dim=-1).numpy()


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
    ids = np.array([class_names.index(name) for name in names])
    return Predictions(texts, ids, predictor.logits(rows), lengths, class_names)


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % bootstrap interval over messages; `nan` where it is not defined."""

    value: float
    low: float
    high: float


def estimates(found: Predictions, temperature: float = 1.0, seed: int = 0) -> dict[str, Estimate]:
    """Accuracy, macro F1, AUROC and loss, with percentile bootstrap intervals (Efron, 1979).

    Where all messages are classified rightly, or none, resampling can't tell how far accuracy may be from that; its
    interval is then the exact one of Clopper and Pearson (1934).

    Args:
        found: at least one message.
        temperature: of the probabilities.
        seed: of the resampling.
    """
    n, classes = found.logits.shape
    probabilities = found.probabilities(temperature)
    losses = F.cross_entropy(
        torch.from_numpy(found.logits / temperature), torch.from_numpy(found.labels), reduction="none"
    ).numpy()
    cells = found.labels * classes + found.predicted  # each message's cell of the confusion matrix
    columns = range(classes) if classes > 2 else [1]
    ranks = [(np.unique(probabilities[:, c], return_inverse=True)[1], found.labels == c) for c in columns]
    random = np.random.default_rng(seed)
    samples: dict[str, list[float]] = {"accuracy": [], "macro F1": [], "AUROC": [], "loss": []}
    resamples = int(np.clip(WORK / (n * len(ranks)), 100, RESAMPLES))
    for i in range(resamples + 1):
        weights = np.ones(n) if i == 0 else np.bincount(random.integers(0, n, n), minlength=n).astype(float)
        samples["accuracy"].append(float(weights @ found.right / n))
        matrix = np.bincount(cells, weights, classes * classes).reshape(classes, classes)
        samples["macro F1"].append(_macro_f1(matrix))
        samples["AUROC"].append(_auroc(ranks, weights))
        samples["loss"].append(float(weights @ losses / n))
    result = {}
    for name, values in samples.items():
        defined = [value for value in values[1:] if not np.isnan(value)]
        low, high = np.percentile(defined, [2.5, 97.5]) if defined else (np.nan, np.nan)
        result[name] = Estimate(values[0], float(low), float(high))
    if found.right.all():
        result["accuracy"] = Estimate(1.0, 0.025 ** (1 / n), 1.0)
    elif not found.right.any():
        result["accuracy"] = Estimate(0.0, 0.0, 1 - 0.025 ** (1 / n))
    return result


def _macro_f1(matrix: np.ndarray) -> float:
    both = matrix.sum(axis=0) + matrix.sum(axis=1)
    return float((2 * matrix.diagonal()[both > 0] / both[both > 0]).mean())


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
    probabilities = torch.from_numpy(found.probabilities(temperature))
    labels = torch.from_numpy(found.labels)
    return float(multiclass_calibration_error(probabilities, labels, len(found.class_names), n_bins=BINS))


def reliability(found: Predictions, temperature: float = 1.0, bins: int = 10) -> list[tuple[float, float, int]]:
    """Mean confidence, accuracy and number of messages of each bin of the confidence that has any."""
    confidence = found.probabilities(temperature).max(axis=1)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        (float(confidence[place == i].mean()), float(found.right[place == i].mean()), int((place == i).sum()))
        for i in range(bins)
        if (place == i).any()
    ]


def fit_temperature(found: Predictions) -> float | None:
    """The temperature that minimises the loss (Guo et al., 2017, "On Calibration of Modern Neural Networks").

    Args:
        found: of validation messages.

    Returns:
        A number from 0.05 to 20. `None` where there is no such minimum, as without a mistake among the messages: the
        loss would have it ever smaller.
    """
    if found.right.all():
        return None
    logits, labels = torch.from_numpy(found.logits).double(), torch.from_numpy(found.labels)
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
    truth = choose_on.labels == positive
    candidates, place = np.unique(chosen, return_inverse=True)
    flagged_right, flagged_all = (
        np.cumsum(np.bincount(place, weights, len(candidates))[::-1])[::-1]
        for weights in (truth.astype(float), np.ones(len(chosen)))
    )
    precisions = flagged_right / flagged_all
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
    confidence = found.probabilities(temperature).max(axis=1)
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


def confusions(found: Predictions, most: int = 20) -> list[tuple[str, str, int]]:
    """True class, predicted class and how often, the most frequent mistakes first."""
    counts: dict[tuple[int, int], int] = {}
    for true, predicted in zip(found.labels[~found.right], found.predicted[~found.right], strict=True):
        counts[int(true), int(predicted)] = counts.get((int(true), int(predicted)), 0) + 1
    names = found.class_names
    ranked = sorted(counts.items(), key=lambda item: -item[1])[:most]
    return [(names[true], names[predicted], count) for (true, predicted), count in ranked]


def mistakes(found: Predictions, temperature: float = 1.0, most: int = 20) -> list[tuple[str, str, float, str]]:
    """True class, predicted class, its probability and the text, the most confident first."""
    probabilities = found.probabilities(temperature).max(axis=1)
    wrong = np.flatnonzero(~found.right)
    wrong = wrong[np.argsort(-probabilities[wrong], kind="stable")][:most]
    names = found.class_names
    return [
        (names[found.labels[i]], names[found.predicted[i]], float(probabilities[i]), found.texts[int(i)]) for i in wrong
    ]
