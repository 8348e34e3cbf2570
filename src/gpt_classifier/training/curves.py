"""Loss and accuracy during a run, as a picture."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gpt_classifier.figures import BLUE, ORANGE, one_axes


def curves(
    history: Sequence[dict[str, float]],
    what: str,
    training: str = "training, running",
    best: int | None = None,
    title: str = "",
) -> Figure:
    """Loss or accuracy during training, against epochs below and examples seen above.

    Args:
        history: rows with `epoch`, `examples` and any of `train/running_{what}` and `val/{what}`.
        what: `loss` or `accuracy`.
        training: what the training curve is called.
        best: the epoch whose weights are kept, which is marked; `None` for none.
        title: above the picture.
    """
    figure, axes = one_axes(6.4, 4.2)
    series = (
        (f"train/running_{what}", training, BLUE, {"linewidth": 1.2, "alpha": 0.8}),
        (f"val/{what}", "validation", ORANGE, {"linewidth": 1.8, "marker": "o", "markersize": 5}),
    )
    for key, label, color, style in series:
        points = [(row["epoch"], row[key]) for row in history if key in row]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, color=color, **style)
    if best is not None:
        axes.axvline(best, color="gray", linewidth=1, linestyle="--", label=f"best epoch, {best}", zorder=1)
    axes.set_title(title, fontsize="medium")
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
