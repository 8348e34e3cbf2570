"""What is predicted about a text: targets, loss, probabilities, decisions and metrics of each kind of task."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gpt_classifier.confusion import MOST_CLASSES, Confusion
from gpt_classifier.errors import expect_one_of

Metrics = dict[str, Any]

MOST_SCORES = 10_000_000  # texts times classes up to which AUROC is measured of many classes: a second of sorting
MONITORS = ("accuracy", "macro_f1", "balanced_accuracy", "mcc", "loss")
MOST_SCALARS = 10  # classes whose figures a logger draws one by one


class Task(Protocol):
    """One kind of question about a text.

    Attributes:
        classes: C names, in the order of the logits.
        monitor: the metric whose best value names the best epoch; equal values are decided by the lower loss.
        mode: `max` or `min`, which value of it is best.
    """

    classes: list[str]
    monitor: str

    @property
    def mode(self) -> str: ...

    def targets(self, labels: Sequence[Any]) -> Tensor:
        """Labels as a tensor with one row a text.

        Raises:
            KeyError: a label that is none of the classes.
        """

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """What training minimises: the mean over texts of weight times loss, a scalar in nats.

        Args:
            logits: `(B, C)` float32.
            targets: as `targets` makes them; or a probability of each class, `(B, C)` float32.
            weights: `(B,)`, of mean 1 over the training set; `None` for 1 each.
        """

    def probabilities(self, logits: Tensor) -> Tensor:
        """`(…, C)` to `(…, C)`."""

    def decide(self, scores: Tensor) -> Tensor:
        """The predicted targets, from logits or probabilities `(B, C)`."""

    def correct(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Whether each text's decision is right, `(B,)` booleans: accuracy is their mean."""

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of each text, `(B,)` in nats; arguments as of `loss`."""

    def metrics(self, targets: Tensor, predicted: Tensor, losses: Tensor, logits: Tensor | None) -> Metrics:
        """Everything that is measured on a whole split, as plain numbers: `loss`, `accuracy`, `monitor` among them.

        Args:
            targets: of N texts, as `targets` makes them.
            predicted: what `decide` said of each.
            losses: `(N,)`.
            logits: `(N, C)` float32; `None` where these are too many to be kept.
        """

    def state(self) -> dict[str, Any]:
        """All of it as plain values, for `task_from_state`."""


class SingleLabel:
    """Each text has exactly one class: softmax and cross-entropy.

    Targets that are probabilities are softened before they are learned: of both distributions the logarithms are
    divided by the temperature, and the loss is their Kullback-Leibler divergence times the temperature squared (Hinton
    et al., "Distilling the Knowledge in a Neural Network", 2015).

    Args:
        classes: C names.
        monitor: the metric that the best epoch is best at, one of `MONITORS`.
        temperature: of the softening, above 0; 1 learns the probabilities as they are.

    Raises:
        OptionError: there is no such metric.
    """

    def __init__(self, classes: Sequence[str], monitor: str = "accuracy", temperature: float = 1.0) -> None:
        expect_one_of("monitor", monitor, MONITORS)
        self.classes = list(classes)
        self.monitor = monitor
        self.temperature = temperature
        self._ids = {name: i for i, name in enumerate(self.classes)}

    @property
    def mode(self) -> str:
        return "min" if self.monitor == "loss" else "max"

    def targets(self, labels: Sequence[str]) -> Tensor:
        return torch.tensor([self._ids[label] for label in labels], dtype=torch.int64)

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        if weights is None and not targets.is_floating_point():
            return F.cross_entropy(logits, targets)
        losses = self.losses(logits, targets)
        return losses.mean() if weights is None else (weights * losses).mean()

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(dim=-1)

    def decide(self, scores: Tensor) -> Tensor:
        return scores.argmax(dim=-1)

    def correct(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.decide(logits) == self._decided(targets)

    def _decided(self, targets: Tensor) -> Tensor:
        """Class ids `(B,)`, the most probable ones of targets that are probabilities."""
        return targets.argmax(dim=-1) if targets.is_floating_point() else targets

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        if not targets.is_floating_point():
            return F.cross_entropy(logits, targets, reduction="none")
        known = targets.clamp_min(torch.finfo(targets.dtype).tiny).log()  # a probability of 0 has no logarithm
        softened, found = ((scores / self.temperature).log_softmax(dim=-1) for scores in (known, logits.float()))
        return self.temperature**2 * F.kl_div(found, softened, reduction="none", log_target=True).sum(dim=-1)

    def metrics(self, targets: Tensor, predicted: Tensor, losses: Tensor, logits: Tensor | None) -> Metrics:
        """Metrics of a split's predictions.

        Memory grows with the number of messages and of classes, never with its square.

        Args:
            targets: `(N,)` class ids; of probabilities `(N, C)` the most probable ones count.
            predicted: `(N,)` class ids.
            losses: `(N,)` in nats.
            logits: `(N, C)` float32; without them there is no AUROC.

        Returns:
            `messages` (N); `loss`, mean cross-entropy in nats; `accuracy`; `balanced_accuracy`, mean recall of the
            classes that have texts; `macro_f1`, mean F1 of the classes that have texts or are predicted; `mcc`,
            Matthews' correlation coefficient (Gorodkin, 2004, for more than two classes; 0 where undefined); `auroc`,
            see `macro_auroc`; `precision`, `recall`, `f1` (0 where undefined) and `support`, the number of texts, by
            class name; `confusion_matrix`, rows true, columns predicted, or of more than `confusion.MOST_CLASSES`
            classes `confusion_pairs`: true class, predicted class and number of texts of each kind of mistake, the
            most frequent first.
        """
        targets = self._decided(targets)
        confusion = Confusion(targets.numpy(), predicted.numpy(), len(self.classes))
        return {
            "messages": len(targets),
            "loss": losses.double().mean().item(),
            "accuracy": (predicted == targets).float().mean().item(),
            "balanced_accuracy": confusion.balanced_accuracy,
            "macro_f1": confusion.macro_f1,
            "mcc": confusion.mcc,
            "auroc": None if logits is None else macro_auroc(logits, targets),
            **confusion.by_class(self.classes),
            **confusion.told(self.classes),
        }

    def state(self) -> dict[str, Any]:
        return {"kind": "single_label", "classes": self.classes}


TASKS = {"single_label": SingleLabel}
"""Every kind of task under the name that `Task.state` gives it; the rest of the state is its arguments."""


def task_from_state(state: dict[str, Any]) -> Task:
    """What `Task.state` described.

    Raises:
        ValueError: it is of an unknown kind. TypeError: its arguments do not fit.
    """
    arguments = dict(state)
    kind = arguments.pop("kind", None)
    if kind not in TASKS:
        raise ValueError(f"its task is of an unknown kind, {kind!r}")
    return TASKS[kind](**arguments)


def too_many_scores(texts: int, classes: int) -> bool:
    """Whether AUROC is left out: above `MOST_SCORES` texts times classes, of more than `MOST_CLASSES` classes."""
    return classes > MOST_CLASSES and texts * classes > MOST_SCORES


def macro_auroc(logits: Tensor, targets: Tensor) -> float | None:
    """Area under the ROC curve of each class's probability against the rest, averaged over classes; ties count half.

    Args:
        logits: `(N, C)` float32.
        targets: `(N,)` class ids.

    Returns:
        `None` where a class has no text, where logits are not finite, or where it is too much (`too_many_scores`).
    """
    N, C = logits.shape
    if too_many_scores(N, C):
        return None
    support = torch.bincount(targets, minlength=C).numpy()
    if support.min() == 0 or support.max() == N or not logits.isfinite().all():
        return None
    probabilities, labels = logits.softmax(dim=-1).numpy(), targets.numpy()
    areas = []
    for i, positives in enumerate(support.tolist()):
        column = np.ascontiguousarray(probabilities[:, i])
        ranked, own = np.sort(column), column[labels == i]
        # of each positive text, twice the number of texts below it, ties half: of positive ones on average half of all
        twice = np.searchsorted(ranked, own, side="left").sum() + np.searchsorted(ranked, own, side="right").sum()
        areas.append((twice - positives**2) / 2 / positives / (N - positives))
    return float(np.mean(areas))


def scalars(metrics: Metrics, prefix: str) -> dict[str, float]:
    """The numbers that a logger can draw, such as `val/accuracy` and `val/recall/spam`.

    Those of single classes are left out where there are more than `MOST_SCALARS`, and counts anyway.
    """
    drawn = {}
    for name, value in metrics.items():
        if isinstance(value, dict):
            shown = {of: number for of, number in value.items() if isinstance(number, float)}
            if len(shown) <= MOST_SCALARS:
                drawn.update({f"{prefix}/{name}/{of}": number for of, number in shown.items()})
        elif isinstance(value, float):
            drawn[f"{prefix}/{name}"] = value
    return drawn
