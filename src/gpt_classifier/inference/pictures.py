"""Pictures of an evaluation and of one message, on light and on dark ground."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

matplotlib.use("Agg")  # files only: no display is needed

BLUE, ORANGE = "#5588bb", "#cc6633"
SEQUENCE = (
    "#5588bb",
    "#cc6633",
    "#559977",
    "#aa77aa",
    "#bb9933",
    "#777777",
    "#cc7799",
    "#55aabb",
    "#998866",
    "#667799",
)


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


def _figure(width: float = 5.2, height: float = 4.0) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def confusion(matrix: np.ndarray, class_names: Sequence[str], dark: bool) -> Figure:
    """Counts, true classes in rows, shaded by their part of the row."""
    size = min(11.0, 2.6 + 0.5 * len(class_names))
    figure, axes = _figure(size + 0.6, size)
    part = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(part, cmap="cividis" if dark else "Blues", vmin=0, vmax=1)
    axes.grid(False)
    if len(class_names) <= 20:
        for (row, column), count in np.ndenumerate(matrix):
            bright = part[row, column] > 0.6
            color = ("black" if bright else "white") if dark else ("white" if bright else "black")
            axes.text(column, row, f"{int(count):,}", ha="center", va="center", color=color)
    ticks = range(0, len(class_names), -(-len(class_names) // 50))
    names = [_plain(class_names[i]) for i in ticks]
    axes.set_xticks(ticks, names, rotation=90 if len(class_names) > 4 else 0)
    axes.set_yticks(ticks, names)
    axes.set(xlabel="predicted", ylabel="true")
    return figure


def receiver_operating(scores: np.ndarray, positive: np.ndarray, name: str) -> Figure:
    """True against false positives of one class, over all thresholds."""
    order = np.argsort(-scores, kind="stable")
    last = np.r_[np.flatnonzero(np.diff(scores[order])), len(scores) - 1]  # equal scores move together
    ups, downs = np.cumsum(positive[order])[last], np.cumsum(~positive[order])[last]
    figure, axes = _figure()
    rates = [np.r_[0, values / max(1, values[-1])] for values in (downs, ups)]
    axes.plot(*rates, color=BLUE, linewidth=2)
    axes.plot([0, 1], [0, 1], color="gray", linewidth=0.8, linestyle="--")
    axes.set(xlabel="false positive rate", ylabel=f"recall of {_plain(name)}", xlim=(-0.01, 1), ylim=(0, 1.01))
    return figure


def precision_recall(
    probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str], positive: int
) -> Figure:
    """Precision against recall, of one of two classes or of each of several against the rest."""
    figure, axes = _figure()
    shown = [positive] if len(class_names) == 2 else range(len(class_names))
    for i in shown:
        order = np.argsort(-probabilities[:, i], kind="stable")
        last = np.r_[np.flatnonzero(np.diff(probabilities[order, i])), len(labels) - 1]
        right = np.cumsum((labels == i)[order])[last]
        recall, precision = right / max(1, right[-1]), right / (last + 1)
        color = SEQUENCE[i % len(SEQUENCE)] if len(class_names) > 2 else BLUE
        axes.plot(recall, precision, label=_plain(class_names[i]), color=color, linewidth=2 if len(shown) == 1 else 1.4)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.legend(loc="lower left", fontsize="small")
    return figure


def reliability(before: Sequence[tuple[float, float, int]], after: Sequence[tuple[float, float, int]] | None) -> Figure:
    """Accuracy against confidence; on the line a classifier is as right as it says."""
    figure, axes = _figure()
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
    figure, axes = _figure(max(5.2, min(14.0, 0.24 * len(tokens) + 1.5)), 3.4)
    shown = [1] if len(class_names) == 2 else np.argsort(-probabilities[-1])[:5]
    for order, i in enumerate(shown):
        axes.plot(
            probabilities[:, i],
            marker="o",
            markersize=3,
            color=SEQUENCE[order],
            label=_plain(class_names[i]),
            linewidth=1.5,
        )
    axes.axhline(0.5, color="gray", linewidth=0.8, linestyle="--")
    step = -(-len(tokens) // 60)
    ticks = range(0, len(tokens), step)
    axes.set_xticks(ticks, [_plain(tokens[i]) for i in ticks], rotation=90, fontsize="x-small")
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
    names = [_plain(token) for token in tokens] if size >= 2 and len(tokens) <= 40 else []
    for axes in grid[len(maps) :]:
        axes.set_axis_off()
    for (layer, head), axes in zip(maps, grid, strict=False):
        axes.imshow(weights[layer, head].numpy(), cmap="magma", vmin=0, vmax=1)
        axes.grid(False)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=5)
        axes.set_yticks(range(len(names)), names, fontsize=5)
        axes.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=7)
    return figure


def _plain(text: str) -> str:
    text = " ".join("".join(c if c.isprintable() or c.isspace() else "�" for c in text).split()) or "␣"
    text = f" {text}" if text.startswith("_") else text  # or matplotlib leaves it out of legends
    text = text if len(text) <= 20 else text[:19] + "…"
    return text.replace("$", r"\$")  # or matplotlib takes it for mathematics
