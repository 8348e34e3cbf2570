"""Pictures of a run."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor
from torchmetrics.functional.classification import multiclass_precision_recall_curve

matplotlib.use("Agg")  # files only: no display is needed

TRAIN, VAL = "#4477aa", "#cc6633"


def curves(history: Sequence[dict[str, float]], what: str, training: str = "training, running") -> Figure:
    """Loss or accuracy during training, against epochs below and examples seen above.

    Args:
        history: rows with `epoch`, `examples` and any of `train/running_{what}` and `val/{what}`.
        what: `loss` or `accuracy`.
        training: what the training curve is called.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    series = (
        (f"train/running_{what}", training, TRAIN, {"linewidth": 1.2, "alpha": 0.8}),
        (f"val/{what}", "validation", VAL, {"linewidth": 1.8, "marker": "o", "markersize": 5}),
    )
    for key, label, color, style in series:
        points = [(row["epoch"], row[key]) for row in history if key in row]
        axes.plot(*zip(*points, strict=True), label=label, color=color, **style)
    axes.set_xlabel("epochs")
    axes.set_ylabel("cross-entropy (nats)" if what == "loss" else "accuracy")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.legend(loc="best", frameon=False)
    # a straight line between the two: every epoch sees the same number of examples
    last = max(history, key=lambda row: row["epoch"])
    per_epoch = last["examples"] / last["epoch"] if last["epoch"] else 0
    if per_epoch:
        scale = np.asarray(per_epoch)
        both_ways = (lambda epochs: np.asarray(epochs) * scale, lambda examples: np.asarray(examples) / scale)
        above = axes.secondary_xaxis("top", functions=both_ways)
        above.set_xlabel("examples seen")
    return figure


def confusion_matrix(matrix: Sequence[Sequence[int]], class_names: Sequence[str], title: str) -> Figure:
    """Counts with true classes in rows and predicted ones in columns, shaded by their part of the row."""
    counts = np.array(matrix)
    part = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(12.0, 2.4 + 0.55 * len(class_names))
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(part, cmap="Blues", vmin=0, vmax=1)
    if len(class_names) <= 20:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if part[row, column] > 0.6 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=color)
    ticks = range(0, len(class_names), -(-len(class_names) // 50))  # more labels would overlap
    names = [_short(class_names[i]) for i in ticks]
    axes.set_xticks(ticks, names, rotation=90 if len(class_names) > 4 else 0)
    axes.set_yticks(ticks, names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, fontsize="medium")
    return figure


def precision_recall(logits: Tensor, labels: Tensor, class_names: Sequence[str], title: str) -> Figure:
    """Precision against recall of each class against the rest, over all thresholds."""
    figure = Figure(figsize=(5.6, 4.6), layout="constrained")
    axes = figure.subplots()
    precision, recall, _ = multiclass_precision_recall_curve(logits.softmax(dim=-1), labels, len(class_names))
    for i, name in enumerate(class_names):
        axes.plot(recall[i].numpy(), precision[i].numpy(), label=_short(name), linewidth=1.5)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.25)
    if len(class_names) <= 20:
        axes.legend(loc="lower left", frameon=False)
    return figure


def padding(accuracy: Sequence[float], changed: Sequence[int], messages: int) -> Figure:
    """Test accuracy, and how many labels differ from those without padding, at each padded length from 1 token."""
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    tokens = range(1, len(accuracy) + 1)
    above.plot(tokens, accuracy, color=TRAIN)
    above.set_ylabel("test accuracy")
    below.plot(tokens, changed, color=VAL)
    below.set_ylabel(f"labels changed, of {messages}")
    below.set_xlabel("tokens that shorter messages are padded to (1: no padding)")
    for axes in (above, below):
        axes.grid(alpha=0.25)
    return figure


def _short(name: str) -> str:
    name = " ".join(name.split())
    name = name if len(name) <= 20 else name[:19] + "…"
    return name.replace("$", r"\$")  # or matplotlib takes it for mathematics
