"""Classifiers side by side on the same messages, and which of them to ship."""

import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from gpt_classifier.confusion import Confusion
from gpt_classifier.evaluation.baselines import Baseline
from gpt_classifier.evaluation.metrics import BINS, SURE, mcnemar

RESAMPLES = 10_000  # of the paired bootstrap
MARGIN, FASTER = 0.01, 2.0  # of the verdict: accuracy, ratio of speeds


@dataclass(frozen=True)
class Contender:
    """One classifier's answers.

    Args:
        name: as the table shows it.
        predicted: `(N,)` class ids.
        probabilities: `(N, C)`, or `None` where it has none.
        messages_per_second: over all messages in one call.
        megabytes: that it takes to predict, 10^6 bytes.
        notes: what must be said of it.
    """

    name: str
    predicted: np.ndarray
    probabilities: np.ndarray | None
    messages_per_second: float
    megabytes: float
    notes: str = ""


def ask(
    name: str,
    texts: Sequence[str],
    classes: list[str],
    predict: Callable[[Sequence[str]], np.ndarray],
    predict_proba: Callable[[Sequence[str]], np.ndarray] | None,
    megabytes: float,
    notes: str = "",
) -> Contender:
    """Time a classifier over all texts, after a first few that are not timed."""
    predict(texts[:8])
    began = time.perf_counter()
    labels = predict(texts)
    seconds = time.perf_counter() - began
    probabilities = predict_proba(texts) if predict_proba else None
    place = {name: i for i, name in enumerate(classes)}
    ids = np.array([place[str(label)] for label in labels])
    return Contender(name, ids, probabilities, len(texts) / seconds, megabytes, notes)


def of_baseline(baseline: Baseline, texts: Sequence[str], classes: list[str]) -> Contender:
    """A fitted baseline as a contender, its columns in the order of the classes."""
    model = baseline.model
    proba = None
    if hasattr(model, "predict_proba"):
        place = {name: i for i, name in enumerate(classes)}
        places = [place[name] for name in model.classes_]  # a class that training lacks has probability 0

        def proba(texts: Sequence[str]) -> np.ndarray:
            found = np.zeros((len(texts), len(classes)))
            found[:, places] = model.predict_proba(texts)
            return found

    size = len(pickle.dumps(model)) / 1e6
    return ask(baseline.name, texts, classes, model.predict, proba, size, baseline.chosen)


@dataclass(frozen=True)
class Paired:
    """Two classifiers on the same messages.

    Args:
        only_first: messages that the first alone has right.
        only_second: and the second alone.
        p_value: of McNemar's exact test.
        low: of the 95 % interval of the difference in accuracy, first less second, by a paired bootstrap.
        high: of the same.
    """

    only_first: int
    only_second: int
    p_value: float
    low: float
    high: float


def pair(first: Contender, second: Contender, labels: np.ndarray, seed: int = 0) -> Paired:
    """Compare two classifiers message by message."""
    a, b = first.predicted == labels, second.predicted == labels
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    difference = a.astype(float) - b.astype(float)
    random = np.random.default_rng(seed)
    counts = random.multinomial(
        len(labels), [float((difference == value).mean()) for value in (-1, 0, 1)], size=RESAMPLES
    )  # resampling messages draws how many of each kind there are
    low, high = np.percentile((counts[:, 2] - counts[:, 0]) / len(labels), [2.5, 97.5])
    return Paired(only_first, only_second, mcnemar(only_first, only_second), float(low), float(high))


@dataclass(frozen=True)
class Line:
    """A contender's numbers; `p_value` and the interval are of the difference to the best one."""

    contender: Contender
    accuracy: float
    f1: float
    calibration_error: float | None
    against_best: Paired | None


def compare(contenders: Sequence[Contender], labels: np.ndarray, classes: int) -> list[Line]:
    """Accuracy, macro F1 and calibration of each, the most accurate first, the faster first among equals."""
    truth = torch.from_numpy(labels)
    ranked = sorted(contenders, key=lambda c: (-(c.predicted == labels).mean(), -c.messages_per_second))
    lines = []
    for contender in ranked:
        f1 = Confusion(labels, contender.predicted, classes).macro_f1
        error = None
        if contender.probabilities is not None:
            probabilities = torch.from_numpy(contender.probabilities).float()
            error = float(multiclass_calibration_error(probabilities, truth, classes, n_bins=BINS))
        paired = None if contender is ranked[0] else pair(ranked[0], contender, labels)
        lines.append(Line(contender, float((contender.predicted == labels).mean()), f1, error, paired))
    return lines


def verdict(lines: Sequence[Line]) -> str:
    """One sentence: which to ship, and why.

    The most accurate one, unless another is `FASTER` times as fast and hardly worse: McNemar's test does not tell it
    apart, and it is at most `MARGIN` behind at the end of the interval.
    """
    best = lines[0]
    n = len(best.contender.predicted)
    said = f"{best.accuracy:.2%} of {n} messages right"
    fast = [
        (line, line.against_best)
        for line in lines[1:]
        if line.against_best
        and line.against_best.p_value >= SURE
        and line.against_best.high <= MARGIN
        and line.contender.messages_per_second >= FASTER * best.contender.messages_per_second
    ]
    if fast:
        line, paired = max(fast, key=lambda pair: pair[0].contender.messages_per_second)
        times = line.contender.messages_per_second / best.contender.messages_per_second
        return (
            f"Ship {line.contender.name}: with {line.accuracy:.2%} it is at most {100 * paired.high:.1f} points behind "
            f"{best.contender.name} ({said}; 95 % interval), and {times:.0f} times as fast."
        )
    if len(lines) == 1 or lines[1].against_best is None:
        return f"Ship {best.contender.name}, with {said}: there is nothing else to choose."
    second, p = lines[1], lines[1].against_best.p_value
    sure = "more than chance explains" if p < SURE else f"though {n} messages are too few to be sure of that"
    return (
        f"Ship {best.contender.name}, with {said}: {second.contender.name} comes next with {second.accuracy:.2%}, "
        f"{sure} (p = {p:.3f})."
    )


def table(lines: Sequence[Line]) -> str:
    """Markdown."""
    head = ["classifier", "accuracy", "macro F1", "calibration error", "only best right / only this right"]
    head += ["p (McNemar)", "best is better by, 95 %", "messages/s", "MB", "notes"]
    rows = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for line in lines:
        paired = line.against_best
        cells = [line.contender.name, f"{line.accuracy:.2%}", f"{line.f1:.4f}"]
        cells.append("" if line.calibration_error is None else f"{line.calibration_error:.4f}")
        if paired:
            cells += [f"{paired.only_first} / {paired.only_second}", f"{paired.p_value:.4f}"]
            cells.append(f"{100 * paired.low:+.2f} to {100 * paired.high:+.2f} points")
        else:
            cells += ["", "", ""]
        cells += [f"{line.contender.messages_per_second:,.0f}", f"{line.contender.megabytes:.1f}", line.contender.notes]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)
