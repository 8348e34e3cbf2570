"""Pictures of an evaluation and of one message, on light and on dark ground."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.functional.classification import binary_roc

from gpt_classifier.figures import BLUE, ORANGE, SEQUENCE, one_axes, plain


def style(dark: bool) -> Any:
    """What `matplotlib.rc_context` takes for figures without a ground of their own."""
    ink = "#dddddd" if dark else "#222222"
    keys = ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    clear = {"figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "legend.frameon": False}
    return {**dict.fromkeys(keys, ink), **clear, "svg.fonttype": "path", "axes.grid": True, "grid.alpha": 0.25}


def svg_uri(figure: Figure) -> str:
    """A figure as a `data:` address of an SVG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def png_uri(figure: Figure) -> str:
    """A figure as a `data:` address of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def receiver_operating(scores: np.ndarray, positive: np.ndarray, name: str) -> Figure:
    """True against false positives of one class, over all thresholds."""
    false_positives, recall, _ = binary_roc(torch.from_numpy(scores), torch.from_numpy(positive.astype(int)))
    figure, axes = one_axes()
    axes.plot(false_positives.numpy(), recall.numpy(), color=BLUE, linewidth=2)
    axes.plot([0, 1], [0, 1], color="gray", linewidth=0.8, linestyle="--")
    axes.set(xlabel="false positive rate", ylabel=f"recall of {plain(name)}", xlim=(-0.01, 1), ylim=(0, 1.01))
    return figure


def reliability(before: Sequence[tuple[float, float, int]], after: Sequence[tuple[float, float, int]] | None) -> Figure:
    """Accuracy against confidence; on the line a classifier is as right as it says."""
    figure, axes = one_axes()
    axes.plot([0, 1], [0, 1], color="gray", linewidth=0.8, linestyle="--")
    for rows, color, label in ((before, BLUE, "as it is"), (after, ORANGE, "with the fitted temperature")):
        if rows:
            confidence, accuracy, counts = zip(*rows, strict=True)
            axes.plot(confidence, accuracy, color=color, linewidth=1.2)
            sizes = 12 + 160 * np.array(counts) / sum(counts)
            axes.scatter(confidence, accuracy, s=sizes, color=color, label=label, zorder=3)
    axes.set(
        xlabel="confidence (probability of the predicted class)", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.04)
    )
    if after:
        axes.legend(loc="upper left", fontsize="small")
    return figure


def tipping(tokens: Sequence[str], probabilities: np.ndarray, class_names: Sequence[str]) -> Figure:
    """The class probabilities after each token: of the last of two classes, or of the five largest at the end."""
    figure, axes = one_axes(max(5.2, min(14.0, 0.24 * len(tokens) + 1.5)), 3.4)
    shown = [1] if len(class_names) == 2 else np.argsort(-probabilities[-1])[:5]
    for order, i in enumerate(shown):
        axes.plot(
            probabilities[:, i],
            marker="o",
            markersize=3,
            color=SEQUENCE[order],
            label=plain(class_names[i]),
            linewidth=1.5,
        )
    axes.axhline(0.5, color="gray", linewidth=0.8, linestyle="--")
    step = -(-len(tokens) // 60)
    ticks = range(0, len(tokens), step)
    axes.set_xticks(ticks, [plain(tokens[i]) for i in ticks], rotation=90, fontsize="x-small")
    axes.set(ylim=(-0.02, 1.02), ylabel="probability so far")
    axes.legend(loc="best", fontsize="small")
    return figure


def attention_maps(
    tokens: Sequence[str], weights: Tensor, maps: Sequence[tuple[int, int]], columns: int, size: float
) -> Figure:
    """What each token (down) looks at (across).

    Args:
        tokens: T pieces of the text.
        weights: `(layers, heads, T, T)`.
        maps: layer and head of each, row by row.
        columns: maps in a row.
        size: of each, in inches; from 2 on, tokens are named where they are 40 at most.
    """
    rows = -(-len(maps) // columns)
    figure = Figure(figsize=(0.6 + size * columns, 0.5 + size * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    names = [plain(token) for token in tokens] if size >= 2 and len(tokens) <= 40 else []
    for axes in grid[len(maps) :]:
        axes.set_axis_off()
    for (layer, head), axes in zip(maps, grid, strict=False):
        axes.imshow(weights[layer, head].numpy(), cmap="magma", vmin=0, vmax=1)
        axes.grid(False)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=5)
        axes.set_yticks(range(len(names)), names, fontsize=5)
        axes.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=7)
    return figure
