"""Pictures that runs and evaluations share, and what all pictures have in common."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gpt_classifier.atomic import replacing

MOST_CURVES = 10  # more classes have no precision-recall curves: nobody could tell these apart

BLUE, ORANGE = "#5588bb", "#cc6633"
SEQUENCE = (
    BLUE,
    ORANGE,
    "#559977",
    "#aa77aa",
    "#bb9933",
    "#777777",
    "#cc7799",
    "#55aabb",
    "#998866",
    "#667799",
)


def confusion_matrix(
    matrix: Sequence[Sequence[int]] | np.ndarray, class_names: Sequence[str], title: str = "", dark: bool = False
) -> Figure:
    """Counts with true classes in rows and predicted ones in columns, shaded by their part of the row.

    Args:
        matrix: `(C, C)` counts.
        class_names: C names.
        title: above the picture.
        dark: shade for a dark ground.
    """
    counts = np.asarray(matrix)
    part = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(12.0, 2.6 + 0.5 * len(class_names))
    figure, axes = one_axes(size + 0.6, size)
    axes.imshow(part, cmap="cividis" if dark else "Blues", vmin=0, vmax=1)
    axes.grid(False)
    if len(class_names) <= 20:
        for (row, column), count in np.ndenumerate(counts):
            bright = part[row, column] > 0.6
            color = ("black" if bright else "white") if dark else ("white" if bright else "black")
            axes.text(column, row, f"{int(count):,}", ha="center", va="center", color=color)
    ticks = range(0, len(class_names), -(-len(class_names) // 50))  # more labels would overlap
    names = [plain(class_names[i]) for i in ticks]
    axes.set_xticks(ticks, names, rotation=90 if len(class_names) > 4 else 0)
    axes.set_yticks(ticks, names)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(title, fontsize="medium")
    return figure


def precision_recall(
    probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str], classes: Sequence[int], title: str = ""
) -> Figure:
    """Precision against recall of classes, each against the rest, over all thresholds.

    Args:
        probabilities: `(N, C)`.
        labels: `(N,)` true classes.
        class_names: C names.
        classes: which are drawn; those without a message are left out.
        title: above the picture.
    """
    import torch  # takes seconds, and most pictures do without
    from torchmetrics.functional.classification import binary_precision_recall_curve

    figure, axes = one_axes()
    for i in classes:
        if not (labels == i).any():
            continue
        right = torch.from_numpy((labels == i).astype(int))
        precision, recall, _ = binary_precision_recall_curve(torch.from_numpy(probabilities[:, i]), right)
        precision, recall = precision[:-1], recall[:-1]  # the last is no threshold, but made up
        color, width = (BLUE, 2) if len(classes) == 1 else (SEQUENCE[i % len(SEQUENCE)], 1.4)
        axes.plot(recall.numpy(), precision.numpy(), label=plain(class_names[i]), color=color, linewidth=width)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.25)
    if axes.lines and len(classes) <= 20:
        axes.legend(loc="lower left", fontsize="small", frameon=False)
    return figure


def one_axes(width: float = 5.2, height: float = 4.0) -> tuple[Figure, Any]:
    """An empty figure, sizes in inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def plain(text: str, longest: int = 20) -> str:
    """A name as matplotlib shows it: on one line, cut to some characters, nothing in it taken for mathematics."""
    text = " ".join("".join(c if c.isprintable() or c.isspace() else "�" for c in text).split()) or "␣"
    text = f" {text}" if text.startswith("_") else text  # or it is left out of legends
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return text.replace("$", r"\$")


def save(figure: Figure, path: Path) -> None:
    """Write a picture in the format of the path's ending, whole or not at all.

    Raises:
        UserError: it can't be written.
    """
    with replacing(path) as part:
        figure.savefig(part, format=path.suffix[1:], dpi=150)
