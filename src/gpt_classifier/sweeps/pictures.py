"""Pictures of a search: how it went on, what its trials had, and what mattered."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from gpt_classifier.figures import BLUE, ORANGE, in_any_script, one_axes, plain
from gpt_classifier.sweeps.results import PERCENT, Sweep, SweepRun, metric_name

COLORS = LinearSegmentedColormap.from_list("worse to better", ["#8a8a94", BLUE, ORANGE])  # seen on any ground
WORST_SHOWN = 0.1  # quantile below which all trials have the same colour: one that failed to learn would hide the rest


def history(sweep: Sweep) -> Figure:
    """Validation of each trial in their order, and the best so far; pruned ones are hollow."""
    runs = [run for run in sweep.runs if math.isfinite(_value(sweep, run))]
    numbers = [run.record.number for run in runs]
    values = [_value(sweep, run) for run in runs]
    figure, axes = one_axes(5.2, 3.4)
    for run, number, value in zip(runs, numbers, values, strict=True):
        pruned = run.record.status == "pruned"
        axes.plot(number, value, "o", color=BLUE, markerfacecolor="none" if pruned else BLUE, markersize=6)
    ended = [(run.record.number, _value(sweep, run)) for run in runs if run.record.status == "finished"]
    if ended:
        best = np.minimum.accumulate if sweep.metric == "loss" else np.maximum.accumulate
        places = [number for number, _ in ended]
        axes.step(places, best([value for _, value in ended]), where="post", color=ORANGE, linewidth=1.5)
    _only_whole_numbers(axes)
    axes.set(xlabel="trial", ylabel=_axis_name(sweep.metric))
    return figure


def parallel_coordinates(sweep: Sweep) -> Figure:
    """A line for each trial that ended, through the values that it had, in the colour of its validation."""
    runs = sorted(
        (run for run in sweep.runs if run.record.status == "finished"), key=lambda run: _rank(sweep, run), reverse=True
    )
    keys = [key for key in sweep.keys if len({run.record.varied.get(key) for run in runs}) > 1]
    values = np.array([_value(sweep, run) for run in runs], dtype=float)
    low, high = _ends_of_colors(sweep.metric, values)
    shades = ScalarMappable(Normalize(low, high), COLORS.reversed() if sweep.metric == "loss" else COLORS)
    figure, axes = one_axes(max(6.4, 1.5 * (len(keys) + 1)), 4.2)
    logarithmic = sweep.found.logarithmic if sweep.found else []
    scales = [_Scale([run.record.varied.get(key, "") for run in runs], key in logarithmic) for key in keys]
    for run, value in zip(runs, values, strict=True):  # the best are drawn last
        heights = [scale.height(run.record.varied.get(key, "")) for key, scale in zip(keys, scales, strict=True)]
        best = run is runs[-1]
        axes.plot(range(len(keys)), heights, color=shades.to_rgba(value), linewidth=3 if best else 1.2, alpha=0.9)
    for place, scale in enumerate(scales):
        axes.axvline(place, color="gray", linewidth=0.8)
        for height, name in scale.ticks():  # above the lines, which end at their height
            axes.text(place + 0.03, height + 0.015, plain(name), fontsize="small", va="bottom")
    axes.set_xticks(range(len(keys)), [_two_lines(key) for key in keys], fontsize="small")
    axes.set_yticks([])
    axes.set(xlim=(-0.1, len(keys) - 0.35), ylim=(-0.04, 1.1))
    axes.grid(False)
    for side in axes.spines.values():
        side.set_visible(False)
    bar = figure.colorbar(shades, ax=axes, shrink=0.8, aspect=25)
    if bar.solids is not None:
        bar.solids.set_rasterized(True)  # or it is drawn as hundreds of areas
    bar.set_label(_axis_name(sweep.metric))
    return in_any_script(figure)


def importance(parts: dict[str, float]) -> Figure:
    """A bar for each option: how much of the differences between trials it explains; they sum to 1."""
    figure, axes = one_axes(5.2, 0.8 + 0.32 * len(parts))
    places = range(len(parts))
    axes.barh(places, list(parts.values()), color=BLUE, height=0.7)
    for place, value in zip(places, parts.values(), strict=True):
        axes.annotate(f"{value:.0%}", (value, place), (3, 0), textcoords="offset points", va="center", fontsize="small")
    axes.set_yticks(places, [plain(key, 30) for key in parts], fontsize="small")
    axes.set(xlim=(0, 1.15 * max(parts.values())), ylim=(len(parts) - 0.5, -0.5), xlabel="importance")
    axes.grid(False, axis="y")
    return figure


class _Scale:
    """Where the values of one option lie on its axis, from 0 to 1."""

    def __init__(self, texts: Sequence[str], logarithmic: bool) -> None:
        self._of = math.log if logarithmic else float
        numbers = [_number(text) for text in texts]
        self._names = sorted(set(texts)) if None in numbers else []
        self._numbers = sorted({number for number in numbers if number is not None})
        if len(self._numbers) <= 5 and not self._names:  # few numbers, as of a choice, are spread evenly
            self._names = sorted(set(texts), key=float)

    def height(self, text: str) -> float:
        """Of a value."""
        if self._names:
            return self._names.index(text) / max(len(self._names) - 1, 1)
        low, high = self._of(self._numbers[0]), self._of(self._numbers[-1])
        return (self._of(float(text)) - low) / ((high - low) or 1.0)

    def ticks(self) -> list[tuple[float, str]]:
        """Heights and what is written there."""
        if self._names:
            return [(self.height(name), name) for name in self._names]
        return [(self.height(str(number)), f"{number:g}") for number in (self._numbers[0], self._numbers[-1])]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _value(sweep: Sweep, run: SweepRun) -> float:
    value = run.measured("val").get(sweep.metric)
    return math.nan if value is None else value * (100 if sweep.metric in PERCENT else 1)


def _rank(sweep: Sweep, run: SweepRun) -> float:
    value = _value(sweep, run)
    return value if sweep.metric == "loss" else -value


def _ends_of_colors(metric: str, values: np.ndarray) -> tuple[float, float]:
    if metric == "loss":
        return values.min(), np.quantile(values, 1 - WORST_SHOWN)
    return np.quantile(values, WORST_SHOWN), values.max()


def _axis_name(metric: str) -> str:
    return f"validation {metric_name(metric)}{' in %' if metric in PERCENT else ''}"


def _two_lines(key: str) -> str:
    group, dot, name = key.rpartition(".")
    return f"{group}.\n{plain(name)}" if dot else plain(name)


def _only_whole_numbers(axes: Any) -> None:
    axes.xaxis.get_major_locator().set_params(integer=True)
