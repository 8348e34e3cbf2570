"""What is measured on a whole split."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_auroc,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

Metrics = dict[str, Any]


def measure(logits: Tensor, labels: Tensor, class_names: list[str]) -> Metrics:
    """Metrics of a split's predictions.

    Args:
        logits: `(N, C)` float32.
        labels: `(N,)` class ids.
        class_names: C names.

    Returns:
        `messages` (N); `loss`, mean cross-entropy in nats; `accuracy`; `auroc`, one class against the rest,
        averaged over classes, `None` where a class has no message; `precision`, `recall` and `f1` by class name
        (0 where undefined); `confusion_matrix`, rows true, columns predicted. Plain Python numbers.
    """
    num_classes = len(class_names)
    by_class = {
        "precision": multiclass_precision(logits, labels, num_classes, average="none"),
        "recall": multiclass_recall(logits, labels, num_classes, average="none"),
        "f1": multiclass_f1_score(logits, labels, num_classes, average="none"),
    }
    auroc = None
    if len(labels.unique()) == num_classes:
        auroc = multiclass_auroc(logits.softmax(dim=-1), labels, num_classes).item()
    return {
        "messages": len(labels),
        "loss": F.cross_entropy(logits, labels).item(),
        "accuracy": multiclass_accuracy(logits, labels, num_classes, average="micro").item(),
        "auroc": auroc,
        **{name: dict(zip(class_names, values.tolist(), strict=True)) for name, values in by_class.items()},
        "confusion_matrix": multiclass_confusion_matrix(logits, labels, num_classes).tolist(),
    }


def scalars(metrics: Metrics, prefix: str) -> dict[str, float]:
    """The numbers that a logger can draw, such as `val/accuracy` and `val/recall/spam`."""
    drawn = {}
    for name, value in metrics.items():
        if isinstance(value, dict):
            drawn.update({f"{prefix}/{name}/{class_name}": number for class_name, number in value.items()})
        elif isinstance(value, float):
            drawn[f"{prefix}/{name}"] = value
    return drawn
