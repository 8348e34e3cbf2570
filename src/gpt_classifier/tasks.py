"""What is predicted about a text: targets, loss, probabilities, decisions and metrics of each kind of task."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Metrics = dict[str, Any]


class Task(Protocol):
    """One kind of question about a text.

    Attributes:
        classes: C names, in the order of the logits.
        monitor: the metric whose best value names the best epoch; equal values are decided by the lower loss.
        mode: `max` or `min`, which value of it is best.
    """

    classes: list[str]
    monitor: str
    mode: str

    def targets(self, labels: Sequence[Any]) -> Tensor:
        """Labels as a tensor with one row a text.

        Raises:
            KeyError: a label that is none of the classes.
        """

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """What training minimises: the mean over texts of weight times loss, a scalar in nats.

        Args:
            logits: `(B, C)` float32.
            targets: as `targets` makes them.
            weights: `(B,)`, of mean 1 over the training set; `None` for 1 each.
        """

    def probabilities(self, logits: Tensor) -> Tensor:
        """`(…, C)` to `(…, C)`."""

    def decide(self, scores: Tensor) -> Tensor:
        """The predicted targets, from logits or probabilities `(B, C)`."""

    def correct(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Whether each text's decision is right, `(B,)` booleans: accuracy is their mean."""

    def metrics(self, logits: Tensor, targets: Tensor) -> Metrics:
        """Everything that is measured on a whole split, as plain numbers: `loss`, `accuracy`, `monitor` among them."""

    def state(self) -> dict[str, Any]:
        """All of it as plain values, for `task_from_state`."""


class SingleLabel:
    """Each text has exactly one class: softmax and cross-entropy.

    Args:
        classes: C names.
    """

    monitor = "accuracy"
    mode = "max"

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = list(classes)
        self._ids = {name: i for i, name in enumerate(self.classes)}

    def targets(self, labels: Sequence[str]) -> Tensor:
        return torch.tensor([self._ids[label] for label in labels], dtype=torch.int64)

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        if weights is None:
            return F.cross_entropy(logits, targets)
        return (weights * F.cross_entropy(logits, targets, reduction="none")).mean()

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(dim=-1)

    def decide(self, scores: Tensor) -> Tensor:
        return scores.argmax(dim=-1)

    def correct(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.decide(logits) == targets

    def metrics(self, logits: Tensor, targets: Tensor) -> Metrics:
        """Metrics of a split's predictions.

        Args:
            logits: `(N, C)` float32.
            targets: `(N,)` class ids.

        Returns:
            `messages` (N); `loss`, mean cross-entropy in nats; `accuracy`; `mcc`, Matthews' correlation coefficient
            (Gorodkin, 2004, for more than two classes; 0 where undefined); `auroc`, one class against the rest,
            averaged over classes, `None` where a class has no text; `precision`, `recall` and `f1` by class name
            (0 where undefined); `confusion_matrix`, rows true, columns predicted.
        """
        from torchmetrics.functional.classification import (  # seconds of imports that predicting does not need
            multiclass_auroc,
            multiclass_confusion_matrix,
            multiclass_f1_score,
            multiclass_matthews_corrcoef,
            multiclass_precision,
            multiclass_recall,
        )

        number = len(self.classes)
        by_class = {
            "precision": multiclass_precision(logits, targets, number, average="none"),
            "recall": multiclass_recall(logits, targets, number, average="none"),
            "f1": multiclass_f1_score(logits, targets, number, average="none"),
        }
        auroc = None
        if len(targets.unique()) == number:
            auroc = multiclass_auroc(self.probabilities(logits), targets, number).item()
        return {
            "messages": len(targets),
            "loss": self.loss(logits, targets).item(),
            "accuracy": self.correct(logits, targets).float().mean().item(),
            "mcc": multiclass_matthews_corrcoef(logits, targets, number).item(),
            "auroc": auroc,
            **{name: dict(zip(self.classes, values.tolist(), strict=True)) for name, values in by_class.items()},
            "confusion_matrix": multiclass_confusion_matrix(logits, targets, number).tolist(),
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


def scalars(metrics: Metrics, prefix: str) -> dict[str, float]:
    """The numbers that a logger can draw, such as `val/accuracy` and `val/recall/spam`."""
    drawn = {}
    for name, value in metrics.items():
        if isinstance(value, dict):
            drawn.update({f"{prefix}/{name}/{class_name}": number for class_name, number in value.items()})
        elif isinstance(value, float):
            drawn[f"{prefix}/{name}"] = value
    return drawn
