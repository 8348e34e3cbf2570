"""A sweep for people: lines for the terminal, `sweep.csv` and `sweep.html`."""

import math
import shlex
from statistics import mean, stdev
from typing import Any

from markupsafe import Markup

from gpt_classifier import pages
from gpt_classifier.atomic import write_table, write_text
from gpt_classifier.errors import printable
from gpt_classifier.paths import near
from gpt_classifier.sweeps.results import METRICS, Configuration, Sweep, SweepRun, metric_name, shown

MOST_LINES = 20  # configurations and failures on the terminal; the page has all
LONGEST = 40  # characters of a value on the terminal, of longer ones the end, which tells paths apart


def conclude(sweep: Sweep, command: str, measure: bool) -> None:
    """Tell what a sweep found, on the terminal and in its folder.

    Args:
        sweep: its runs.
        command: repeats the best run; empty where there is none.
        measure: whether the best configuration is measured on test.

    Raises:
        UserError: the files can't be written.
    """
    write(sweep, command)
    print(table(sweep), flush=True)
    if measure and sweep.best:  # after the table, which a second Ctrl-C can't take back
        from gpt_classifier.sweeps.measuring import measure_best  # torch, which a sweep that failed may not have needed

        measure_best(sweep)
        write(sweep, command)
    print(outcome(sweep, command, near(sweep.folder)), flush=True)


def write(sweep: Sweep, command: str) -> None:
    """`sweep.csv` and `sweep.html` into the folder of the sweep.

    Args:
        sweep: measured on test or not.
        command: as `conclude` takes it.

    Raises:
        UserError: they can't be written.
    """
    write_table(sweep.folder / "sweep.csv", sweep.table())
    write_text(sweep.folder / "sweep.html", page(sweep, command))


def table(sweep: Sweep) -> str:
    """What was found on validation, as the terminal shows it."""
    lines = ["", headline(sweep), ""]
    lines += _aligned([_head(sweep), *_rows(sweep)[:MOST_LINES]]) if sweep.ranking else []
    if len(sweep.ranking) > MOST_LINES:
        lines.append(f"… and {len(sweep.ranking) - MOST_LINES} more in sweep.csv")
    return "\n".join(printable(line) for line in [*lines, *_unfinished(sweep), ""])


def outcome(sweep: Sweep, command: str, folder: str) -> str:
    """The best configuration and where everything is, as the terminal shows it.

    Args:
        sweep: as `write` takes it.
        command: as `conclude` takes it.
        folder: of the sweep, as a person writes it.
    """
    lines = [*sweep.notes()]
    if sweep.best:
        lines += [f"best     {sweep.best.name}", *([f"test     {tested(sweep)}"] if sweep.tested else [])]
        lines.append(f"repeat   {command}")
    lines += [
        f"page     {folder}/sweep.html, and sweep.csv beside it",
        f"curves   tensorboard --logdir {shlex.quote(folder)}",
    ]
    return "\n".join(printable(line) for line in lines)


def headline(sweep: Sweep) -> str:
    """How many runs of what, and what they are ranked by."""
    ended = len(sweep.runs) - len(sweep.unfinished)
    what = "trial" if sweep.found else "run"
    told = f"{ended} of {len(sweep.runs)} {what}s finished" if sweep.unfinished else _count(ended, what)
    told += f", {len(sweep.pruned)} of them pruned" if sweep.pruned else ""
    told += "" if sweep.found else f", {_count(len(sweep.ranking), 'configuration')}"
    if sweep.best is None:
        return f"{told}, without validation to rank them by"
    over = f"; mean ± s.d. over {', '.join(sweep.repeated)}" if sweep.repeated else ""
    return f"{told}, ranked by validation {metric_name(sweep.metric)} of the best epoch{over}"


def tested(sweep: Sweep) -> str:
    """The best configuration on test, in a sentence."""
    figures = [
        f"{metric_name(metric)} {shown([found.get(metric, math.nan) for found in sweep.tested], metric)}"
        for metric in dict.fromkeys((sweep.metric, "accuracy", "macro_f1"))
    ]
    messages = f"{sweep.tested[0]['messages']:,} messages, {_count(len(sweep.tested), 'run')}"
    return f"{', '.join(figures)} ({messages}; the best configuration only)"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _metrics(sweep: Sweep) -> list[str]:
    """Metrics beside each configuration, that of the ranking first."""
    return list(dict.fromkeys((sweep.metric, "accuracy", "macro_f1", "loss"))) if sweep.best else []


def _varied(sweep: Sweep) -> list[str]:
    return [key for key in sweep.keys if key not in sweep.repeated]


def _head(sweep: Sweep) -> list[str]:
    return ["", *_varied(sweep), *map(metric_name, _metrics(sweep)), "runs", "seconds"]


def _rows(sweep: Sweep) -> list[list[str]]:
    rows = []
    for rank, configuration in enumerate(sweep.ranking, 1):
        values = [_short(configuration.varied.get(key, "")) for key in _varied(sweep)]
        figures = [shown(configuration.values(metric), metric) for metric in _metrics(sweep)]
        place = f"{rank} default" if sweep.default in configuration.runs else str(rank)
        rows.append([place, *values, *figures, str(len(configuration.runs)), _duration(_seconds(configuration))])
    return rows


def _short(value: str) -> str:
    return value if len(value) <= LONGEST else f"…{value[1 - LONGEST :]}"


def _seconds(configuration: Configuration) -> float:
    return mean(run.seconds for run in configuration.runs)


def _duration(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{seconds:,.1f}" if seconds < 10 else f"{seconds:,.0f}"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _unfinished(sweep: Sweep) -> list[str]:
    told = [f"{run.record.status:<12} {run.record.name}: {_why(run)}" for run in sweep.unfinished]
    more = len(told) - MOST_LINES
    return (["", *told[:MOST_LINES]] if told else []) + ([f"… and {more} more in sweep.csv"] if more > 0 else [])


def _why(run: SweepRun) -> str:
    return run.record.reason or "it was ended before it was done"


def page(sweep: Sweep, command: str) -> str:
    """The page as HTML that needs nothing beside it; links lead to the folders of the runs."""
    best = sweep.best
    kind = "Search" if sweep.found else "Sweep"
    return pages.render(
        "sweep",
        title=f"{kind} over {', '.join(sweep.keys)}" if sweep.keys else kind,
        headline=headline(sweep),
        notes=sweep.notes(),
        tiles=_tiles(sweep),
        best=best.name if best else "",
        tested=tested(sweep) if sweep.tested else "",
        command=command,
        metric=metric_name(sweep.metric),
        pictures=_pictures(sweep),
        evaluator=sweep.found.evaluator if sweep.found else "",
        ended=len(sweep.ranking),
        chart={} if sweep.found else _chart(sweep),
        head=_varied(sweep),
        metrics=[metric_name(metric) for metric in _metrics(sweep)],
        ranking=[_ranked(sweep, rank, configuration) for rank, configuration in enumerate(sweep.ranking, 1)],
        keys=sweep.keys,
        all_metrics=[metric_name(metric) for metric in METRICS],
        runs=[_run(sweep, run) for run in sweep.runs],
    )


def _tiles(sweep: Sweep) -> list[dict[str, str]]:
    if sweep.best is None:
        return []
    name = metric_name(sweep.metric)
    tiles = [{"value": shown(sweep.best.values(sweep.metric), sweep.metric), "name": f"validation {name} of the best"}]
    if sweep.tested:
        values = [found.get(sweep.metric, math.nan) for found in sweep.tested]
        tiles.append({"value": shown(values, sweep.metric), "name": f"test {name} of the best"})
    if sweep.default:
        tiles.append({"value": shown([_of_default(sweep)], sweep.metric), "name": f"validation {name} of the default"})
    seconds = sum(run.seconds for run in sweep.runs if not math.isnan(run.seconds))
    what = "trial" if sweep.found else "run"
    return [*tiles, {"value": f"{_duration(seconds)} s", "name": f"for {_count(len(sweep.runs), what)}"}]


def _of_default(sweep: Sweep) -> float:
    assert sweep.default is not None
    return sweep.default.measured("val").get(sweep.metric, math.nan)


def _pictures(sweep: Sweep) -> dict[str, Markup]:
    """Of a search; none of any other sweep."""
    if not sweep.found or not sweep.best:
        return {}
    from gpt_classifier.evaluation.pictures import svg  # with matplotlib and torch
    from gpt_classifier.sweeps import pictures

    drawn = {"history": svg(lambda: pictures.history(sweep), "history"), "importance": "", "parallel": ""}
    if parts := sweep.found.importance:
        drawn["importance"] = svg(lambda: pictures.importance(parts), "importance")
    if len(sweep.ranking) > 1:
        drawn["parallel"] = svg(lambda: pictures.parallel_coordinates(sweep), "parallel")
    return {name: Markup(text) for name, text in drawn.items()}


def _chart(sweep: Sweep) -> dict[str, Any]:
    """The ends of the axis, and for each configuration where mean, deviation and runs lie, in percent of it."""
    if sweep.best is None:
        return {}
    values = [
        [value for value in configuration.values(sweep.metric) if math.isfinite(value)]
        for configuration in sweep.ranking
    ]
    ends = [mean(part) + side * _deviation(part) for part in values if part for side in (-1, 1)]
    ends += [value for part in values for value in part]
    low, high = min(ends), max(ends)
    width = (high - low) or abs(high) or 1.0
    bars = []
    for configuration, part in zip(sweep.ranking, values, strict=True):
        if not part:
            continue
        center, deviation = mean(part), _deviation(part)
        bars.append(
            {
                "name": configuration.name,
                "value": shown(part, sweep.metric),
                "mean": 100 * (center - low) / width,
                "start": 100 * (center - deviation - low) / width,
                "length": 200 * deviation / width,
                "dots": [100 * (value - low) / width for value in part] if len(part) > 1 else [],
            }
        )
    return {"low": shown([low], sweep.metric), "high": shown([high], sweep.metric), "bars": bars}


def _deviation(values: list[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def _ranked(sweep: Sweep, rank: int, configuration: Configuration) -> dict[str, Any]:
    figures = [
        {"shown": shown(values, metric), "order": _order(mean(values))}
        for metric in _metrics(sweep)
        for values in (configuration.values(metric),)
    ]
    seconds = _seconds(configuration)
    return {
        "rank": rank,
        "default": sweep.default in configuration.runs,
        "varied": [configuration.varied.get(key, "") for key in _varied(sweep)],
        "figures": figures,
        "runs": len(configuration.runs),
        "seconds": {"shown": _duration(seconds), "order": _order(seconds)},
    }


def _run(sweep: Sweep, run: SweepRun) -> dict[str, Any]:
    found = run.measured("val")
    values = [found.get(metric) for metric in METRICS]
    steps = run.found.get("last", {}).get("step")
    return {
        "folder": run.folder.relative_to(sweep.folder).as_posix(),
        "number": run.record.number,
        "varied": [run.record.varied.get(key, "") for key in sweep.keys],
        "figures": [
            {"shown": "" if value is None else shown([value], metric), "order": _order(value)}
            for metric, value in zip(METRICS, values, strict=True)
        ],
        "epoch": run.best.get("epoch", ""),
        "steps": "" if steps is None else steps,
        "seconds": {"shown": _duration(run.seconds), "order": _order(run.seconds)},
        "status": run.record.status,
        "why": _why(run) if run.record.status != "finished" else "",
    }


def _order(value: float | None) -> str:
    """What a column is sorted by; empty, which is last, for what is not a number."""
    return "" if value is None or math.isnan(value) else repr(float(value))
