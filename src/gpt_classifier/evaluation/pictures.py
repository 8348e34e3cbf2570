"""Pictures of an evaluation and of one message, for a page of any ground."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from gpt_classifier.confusion import over_thresholds
from gpt_classifier.figures import BLUE, ORANGE, SEQUENCE, in_any_script, one_axes, plain, without_glyph_warnings

INK = "#010203"  # a colour that no picture has by chance


def svg(draw: Callable[[], Figure], name: str) -> str:
    """A picture as an element for a page with the variable `--ink`, which draws and writes in it on its own ground.

    Args:
        draw: makes it.
        name: unlike those of the page's other pictures, which it can refer to.
    """
    keys = ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    clear = {"figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "legend.frameon": False}
    written = {"svg.fonttype": "none", "svg.hashsalt": name}  # as text, for which the browser finds a font
    settings: Any = {
        **dict.fromkeys(keys, INK),
        **clear,
        **written,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "font.size": 12,
    }
    buffer = io.StringIO()
    with matplotlib.rc_context(settings), without_glyph_warnings():
        draw().savefig(buffer, format="svg", metadata={"Date": None})
    drawn = buffer.getvalue()
    drawn = re.sub(
        r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", drawn[drawn.index("<svg") :], flags=re.S
    )
    drawn = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", drawn)  # names of matplotlib's parts: the same in every picture
    drawn = re.sub(r'width="([\d.]+)pt" height="[\d.]+pt"', r'style="width: \1pt"', drawn, count=1)
    return drawn.replace(INK, "var(--ink)")


def receiver_operating(scores: np.ndarray, positive: np.ndarray, name: str) -> Figure:
    """True against false positives of one class, over all thresholds; there are texts of it, and others."""
    _, right, flagged = over_thresholds(scores, positive)
    false = flagged - right
    figure, axes = one_axes()
    axes.plot([*false / false[0], 0], [*right / right[0], 0], color=BLUE, linewidth=2)
    axes.plot([0, 1], [0, 1], color="gray", linewidth=0.8, linestyle="--")
    axes.set(xlabel="false positive rate", ylabel=f"recall of {plain(name)}", xlim=(-0.01, 1), ylim=(0, 1.01))
    return in_any_script(figure)


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
    return in_any_script(figure)


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
    for i, ((layer, head), axes) in enumerate(zip(maps, grid, strict=False)):
        axes.imshow(weights[layer, head].numpy(), cmap="magma", vmin=0, vmax=1, interpolation="none")
        axes.grid(False)
        beside, below = names if i % columns == 0 else [], names if i + columns >= len(maps) else []  # once for all
        axes.set_xticks(range(len(below)), below, rotation=90, fontsize=5)
        axes.set_yticks(range(len(beside)), beside, fontsize=5)
        axes.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=7)
    return in_any_script(figure)
