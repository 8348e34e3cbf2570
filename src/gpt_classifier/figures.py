"""Pictures that runs and evaluations share, and what all pictures have in common."""

import logging
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager, get_cachedir, rcParams
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, PercentFormatter

from gpt_classifier.atomic import replacing
from gpt_classifier.confusion import over_thresholds

log = logging.getLogger(__name__)

MOST_CURVES = 10  # more classes have no precision-recall curves: nobody could tell these apart

STRONGEST, MUTED = 0.8, 0.2  # opacity of the most frequent mistake, and of the diagonal: text on both can be read
SMALLEST = 4.5  # points of a count in a cell

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


def curves(
    history: Sequence[dict[str, float]],
    what: str,
    training: str = "training, running",
    best: int | None = None,
    title: str = "",
    accuracy: str = "accuracy",
) -> Figure:
    """Loss or accuracy during training, against epochs below and examples seen above.

    Args:
        history: rows with `epoch`, `examples` and any of `train/running_{what}` and `val/{what}`.
        what: `loss` or `accuracy`.
        training: what the training curve is called.
        best: the epoch whose weights are kept, which is marked; `None` for none.
        title: above the picture.
        accuracy: what it is called.
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
    axes.set_ylabel("cross-entropy (nats)" if what == "loss" else accuracy)
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


def confusion_matrix(
    matrix: Sequence[Sequence[int]] | np.ndarray,
    class_names: Sequence[str],
    title: str = "",
    support: np.ndarray | None = None,
) -> Figure:
    """Counts with true classes in rows and predicted ones in columns, mistakes shaded by their part of the true class.

    The diagonal is grey, so that mistakes have the colour scale to themselves. All shades are transparent: the picture
    can be shown on a light and on a dark ground.

    Args:
        matrix: `(C, C)` counts.
        class_names: C names.
        title: above the picture.
        support: `(C,)` messages of each true class, where the matrix lacks classes; by default sums of its rows.
    """
    counts = np.asarray(matrix)
    support = counts.sum(axis=1) if support is None else support
    part = counts / np.maximum(support, 1)[:, None]
    diagonal = np.eye(len(counts), dtype=bool)
    highest = float(part[~diagonal].max(initial=0.0)) or 1.0
    names = [plain(name) for name in class_names]
    largest = float(rcParams["font.size"])
    inches = min(10.0, 1.3 + 0.5 * len(counts))  # of the matrix
    points = 72 * inches / len(counts)  # of a cell
    font = min(largest, 0.8 * points)
    longest = max(map(columns, names)) * 0.64 * font  # a digit is 0.64 of the font's size, and most letters are less
    turned = longest > points
    beside, below = longest / 72, (longest if turned else font) / 72
    figure, axes = one_axes(inches + beside + 0.2 * largest, inches + below + 0.09 * largest)
    shades = LinearSegmentedColormap.from_list("mistakes", [(*to_rgb(ORANGE), alpha) for alpha in (0, STRONGEST)])
    axes.imshow(np.where(diagonal[..., None], (*to_rgb("gray"), MUTED), shades(part / highest)), interpolation="none")
    axes.grid(False)
    for (row, column), count in np.ndenumerate(counts):
        written = f"{int(count):,}"
        fitting = min(largest, points / (0.7 * len(written)))
        if fitting >= SMALLEST and (count or len(counts) <= 10):
            axes.text(column, row, written, ha="center", va="center", fontsize=fitting).set_in_layout(False)
    axes.set_xticks(range(len(names)), names, rotation=90 if turned else 0, fontsize=font)
    axes.set_yticks(range(len(names)), names, fontsize=font)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(title, fontsize="medium")
    scale = ScalarMappable(Normalize(0, highest), shades)
    bar = figure.colorbar(scale, ax=axes, format=PercentFormatter(1), shrink=0.8, aspect=25)
    if bar.solids is not None:
        bar.solids.set_rasterized(True)  # or it is drawn as hundreds of areas
    bar.set_label("mistakes, of the true class")
    return in_any_script(figure)


def f1_by_class(f1: Sequence[float], messages: Sequence[int], class_names: Sequence[str]) -> Figure:
    """A bar for each class, in the given order from above.

    Args:
        f1: of C classes, from 0 to 1.
        messages: of each class, which are named beside it.
        class_names: C names.
    """
    figure, axes = one_axes(5.2, 0.9 + 0.22 * len(class_names))
    places = range(len(class_names))
    axes.barh(places, f1, color=BLUE, height=0.72)
    for place, value in zip(places, f1, strict=True):
        inside = value > 0.85
        axes.annotate(
            f"{value:.1%}",
            (value, place),
            (-3 if inside else 3, 0),
            textcoords="offset points",
            va="center",
            ha="right" if inside else "left",
            fontsize="x-small",
            color="white" if inside else None,
        )
    names = [f"{plain(name)} ({count:,})" for name, count in zip(class_names, messages, strict=True)]
    axes.set_yticks(places, names, fontsize="small")
    axes.set(xlabel="F1", xlim=(0, 1), ylim=(len(names) - 0.5, -0.5))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(False, axis="y")
    return in_any_script(figure)


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
    figure, axes = one_axes()
    for i in classes:
        if not (labels == i).any():
            continue
        _, right, flagged = over_thresholds(probabilities[:, i], labels == i)
        color, width = (BLUE, 2) if len(classes) == 1 else (SEQUENCE[i % len(SEQUENCE)], 1.4)
        axes.plot(right / right[0], right / flagged, label=plain(class_names[i]), color=color, linewidth=width)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.25)
    if axes.lines and len(classes) <= 20:
        axes.legend(loc="lower left", fontsize="small", frameon=False)
    return in_any_script(figure)


def one_axes(width: float = 5.2, height: float = 4.0) -> tuple[Figure, Any]:
    """An empty figure, sizes in inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def plain(text: str, longest: int = 20) -> str:
    """A name as matplotlib shows it: on one line, cut to some characters, nothing in it taken for mathematics."""
    shown = (c if c.isprintable() or c.isspace() else "�" for c in text if unicodedata.category(c) != "Cf")
    text = " ".join("".join(shown).split()) or "␣"  # Cf: marks of direction, joiners
    text = f" {text}" if text.startswith("_") else text  # or it is left out of legends
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return text.replace("$", r"\$")


def columns(text: str) -> int:
    """How many columns of a terminal a text takes: two for each of the wide characters of East Asia."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


FALLBACKS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK KR", "Source Han Sans", "WenQuanYi Zen Hei"),
    *("WenQuanYi Micro Hei", "IPAexGothic", "NanumGothic", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic"),
    *("PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Noto Sans Arabic", "Noto Sans Hebrew"),
    *("Noto Sans Devanagari", "Noto Sans Thai", "Noto Emoji", "Segoe UI Symbol", "Arial Unicode MS"),
)
"""Fonts for scripts that matplotlib's own has not, where they are installed."""


@cache
def font_families() -> list[str]:
    """matplotlib's own font, and what is installed of `FALLBACKS`."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in FALLBACKS if name in installed)]


def in_any_script(figure: Figure) -> Figure:
    """A figure whose texts use a further font for characters that the first lacks."""
    for text in figure.findobj(Text):
        if not text.get_text().isascii():  # others need no more fonts, which take time to open
            text.set_fontfamily(font_families())
    return figure


def missing_characters(figure: Figure) -> str:
    """The characters of a figure's texts that no font of `font_families` has."""
    written = {c for text in figure.findobj(Text) for c in text.get_text() if not c.isascii() and not c.isspace()}
    if not written:
        return ""
    paths = [font_manager.findfont(name) for name in font_families()]
    known = set[str]().union(*(map(chr, font_manager.get_font(path).get_charmap()) for path in paths))
    return "".join(sorted(written - known))


@contextmanager
def without_glyph_warnings() -> Iterator[None]:
    """Inside, matplotlib does not warn of each character that no font has."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*Glyph .* missing from font.*")
        warnings.filterwarnings("ignore", ".*Matplotlib currently does not support.*")
        yield


def save(figure: Figure, path: Path) -> None:
    """Write a picture in the format of the path's ending, whole or not at all.

    Raises:
        UserError: it can't be written.
    """
    if missing := missing_characters(figure):
        log.warning(
            "%s shows boxes for characters that no installed font has: %s. Install one that has them, such as Noto "
            "Sans CJK, and remove matplotlib's list of fonts in %s",
            path.name,
            missing[:20],
            get_cachedir(),
        )
    with without_glyph_warnings(), replacing(path) as part:
        figure.savefig(part, format=path.suffix[1:], dpi=150)
