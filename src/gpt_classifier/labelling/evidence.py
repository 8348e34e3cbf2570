"""How good the classifier is while texts are labelled, what more labels would gain, and when to stop."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpt_classifier.decisions.selective import upper_bound

CONFIDENCE = 0.95
FEW_RANDOM, FEW_TRAINED = 20, 30  # below which nothing is advised
STEP = 10  # labels between two fits that are compared
STABLE = 0.99  # mean kappa of `STABLE_FITS` comparisons from which on more labels change next to nothing
STABLE_FITS = 3


@dataclass(frozen=True)
class Interval:
    """An estimate with a confidence interval, all as parts of 1."""

    value: float
    low: float
    high: float


def clopper_pearson(right: int, number: int, confidence: float = CONFIDENCE) -> Interval:
    """The exact interval of a proportion (Clopper and Pearson, "The use of confidence or fiducial limits", 1934).

    Args:
        right: of how many it holds.
        number: of how many, at least one.
        confidence: of the interval.
    """
    tail = (1 - confidence) / 2
    low, high = 1 - upper_bound(number - right, number, tail), upper_bound(right, number, tail)
    return Interval(right / number, low, high)


def paired_gain(before: np.ndarray, after: np.ndarray) -> Interval:
    """How much more of the same texts a second classifier has right.

    The interval is exact given how many texts only one of the two has right, as in McNemar's test (1947).

    Args:
        before: `(n,)` booleans, whether the first one is right.
        after: the same of the second.
    """
    number, better, worse = len(before), int((after & ~before).sum()), int((before & ~after).sum())
    differing = better + worse
    if not differing:
        most = clopper_pearson(0, number).high
        return Interval(0.0, -most, most)
    part = clopper_pearson(better, differing)
    low, value, high = ((2 * share - 1) * differing / number for share in (part.low, part.value, part.high))
    return Interval(value, low, high)


def kappa(first: np.ndarray, second: np.ndarray) -> float:
    """Cohen's kappa (1960): how far two classifiers agree beyond chance, 1 for always.

    Args:
        first: `(n,)` classes that the one predicts.
        second: those of the other.
    """
    classes = max(first.max(), second.max()) + 1
    agreed = float((first == second).mean())
    shares = (np.bincount(each, minlength=classes) / len(first) for each in (first, second))
    by_chance = float(np.prod(list(shares), axis=0).sum())
    return 1.0 if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)


@dataclass(frozen=True)
class Recall:
    """Of one class in the random share.

    Args:
        name: of the class.
        right: texts of it that were predicted so.
        number: texts of it.
    """

    name: str
    right: int
    number: int


@dataclass(frozen=True)
class Evidence:
    """What is known of the classifier.

    Args:
        accuracy: on the random share; `None` without any.
        random: labelled texts of the random share, on which all of this is measured.
        majority: accuracy of always saying the most frequent class there.
        recalls: by class, in their order.
        trained: labels that it was fitted to.
        gain: of accuracy on the random share, since half of these labels; `None` while there are too few.
        agreement: mean kappa of the last comparisons of two fits, `STEP` labels apart; `None` while there are too few.
        missing: classes that no label has.
    """

    accuracy: Interval | None
    random: int
    majority: float
    recalls: list[Recall]
    trained: int
    gain: Interval | None
    agreement: float | None
    missing: list[str]

    @property
    def enough(self) -> bool:
        """Whether anything can be advised."""
        return self.random >= FEW_RANDOM and self.trained >= FEW_TRAINED and not self.missing

    @property
    def stop(self) -> bool:
        """Whether more labels are not expected to change predictions.

        Bloodgood and Vijay-Shanker, "A Method for Stopping Active Learning Based on Stabilizing Predictions and the
        Need for User-Adjustable Stopping" (CoNLL 2009): the last fits agree, on texts that need no label.
        """
        return self.enough and self.agreement is not None and self.agreement >= STABLE

    def advice(self) -> str:
        """What to do next, in a sentence or three."""
        if not self.enough:
            return f"Too early to say: {self._lacking()}."
        parts = []
        if self.stop:
            parts.append(
                f"You can stop: the last {STEP * STABLE_FITS} labels changed next to no prediction (agreement "
                f"{self.agreement:.3f}). What it still has wrong, more labels of this kind will hardly change."
            )
        else:
            parts.append("Go on: new labels still change predictions.")
        if self.gain is not None:
            half = self.trained // 2
            parts.append(
                f"From {half} to {self.trained} labels, accuracy changed by {100 * self.gain.value:+.1f} points "
                f"(95 % interval {100 * self.gain.low:+.1f} to {100 * self.gain.high:+.1f}). Twice as many labels "
                f"again seldom bring more than that."
            )
        return " ".join(parts)

    def _lacking(self) -> str:
        parts = []
        if self.missing:
            parts.append(f"no text has the label {' or '.join(self.missing)} yet")
        if self.trained < FEW_TRAINED:
            parts.append(f"{self.trained} of at least {FEW_TRAINED} labels to learn from")
        if self.random < FEW_RANDOM:
            parts.append(f"{self.random} of at least {FEW_RANDOM} random texts to measure on")
        return ", ".join(parts)


def measure(
    truth: Sequence[int],
    predicted: np.ndarray,
    half: np.ndarray | None,
    agreements: Sequence[float],
    trained: int,
    classes: Sequence[str],
    missing: Sequence[str],
) -> Evidence:
    """What the random share says.

    Args:
        truth: `(n,)` classes that a person gave.
        predicted: `(n,)` those of the classifier.
        half: the same of one that was fitted to the first half of the labels, if there was one.
        agreements: kappa of the last pairs of fits, the newest last.
        trained: labels that it was fitted to.
        classes: C names.
        missing: classes that no label has.
    """
    labels = np.asarray(truth, dtype=np.int64)
    right = predicted == labels
    counts = np.bincount(labels, minlength=len(classes))
    enough = len(agreements) >= STABLE_FITS
    return Evidence(
        accuracy=clopper_pearson(int(right.sum()), len(labels)) if len(labels) else None,
        random=len(labels),
        majority=float(counts.max() / len(labels)) if len(labels) else 0.0,
        recalls=[Recall(name, int(right[labels == c].sum()), int(counts[c])) for c, name in enumerate(classes)],
        trained=trained,
        gain=paired_gain(half == labels, right) if half is not None and len(labels) else None,
        agreement=float(np.mean(agreements[-STABLE_FITS:])) if enough else None,
        missing=list(missing),
    )
