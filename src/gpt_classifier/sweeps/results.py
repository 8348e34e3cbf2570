"""The runs of a sweep as they are in its folder, grouped and ranked."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd

from gpt_classifier.atomic import write_json
from gpt_classifier.experiments import spread

RECORD = "sweep_run.json"
"""In the folder of each run of a sweep."""

REPEATED = ("seed", "data.split_seed", "data.subset_seed", "data.fold")
"""Keys that repeat a measurement: runs that differ in nothing else are one configuration."""

METRICS = ("accuracy", "macro_f1", "balanced_accuracy", "mcc", "loss")
PERCENT = ("accuracy", "macro_f1", "balanced_accuracy")


@dataclass(frozen=True)
class Record:
    """What a run of a sweep says of itself, for the table of all.

    Args:
        number: its place in the sweep, from 0.
        varied: what the sweep varies, by key; values are texts as a person reads them.
        overrides: all that was set for it, as on the command line.
        status: `finished`, `pruned`, which is ended early by a search, `failed` or `interrupted`.
        reason: why it failed or was pruned.
    """

    number: int
    varied: dict[str, str]
    overrides: list[str]
    status: str = "interrupted"
    reason: str = ""

    def write(self, folder: Path) -> None:
        """Into the folder of the run."""
        write_json(folder / RECORD, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "Record":
        """From the folder of a run."""
        return cls(**json.loads((folder / RECORD).read_text(encoding="utf-8")))

    @property
    def fixed(self) -> set[str]:
        """What was set for all runs."""
        return {override for override in self.overrides if override.partition("=")[0].lstrip("+") not in self.varied}

    @property
    def name(self) -> str:
        """What was varied, in one line."""
        return " ".join(f"{key}={value}" for key, value in self.varied.items()) or "as given"


@dataclass(frozen=True)
class SweepRun:
    """A run of a sweep.

    Args:
        folder: of the run.
        record: what it said of itself.
        found: its `metrics.json`; empty where it failed or was interrupted.
    """

    folder: Path
    record: Record
    found: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "SweepRun":
        """From its folder."""
        record, metrics = Record.read(folder), folder / "metrics.json"
        done = record.status in ("finished", "pruned") and metrics.is_file()
        return cls(folder, record, json.loads(metrics.read_text(encoding="utf-8")) if done else {})

    def measured(self, split: str) -> dict[str, Any]:
        """Metrics of its best epoch on a split; empty where these were not measured."""
        return self.best.get(split, {})

    @property
    def best(self) -> dict[str, Any]:
        """The stage of its best epoch, or of its last where it kept none, as `procedure=chapter`."""
        return self.found.get("best") or self.found.get("last", {})

    @property
    def seconds(self) -> float:
        """Of the whole run; `nan` where it did not finish."""
        return self.found.get("seconds", {}).get("run", math.nan)


@dataclass(frozen=True)
class Configuration:
    """Finished runs that differ in nothing but `REPEATED`.

    Args:
        varied: the other keys that the sweep varies.
        runs: at least one.
    """

    varied: dict[str, str]
    runs: list[SweepRun]

    @property
    def name(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.varied.items()) or "the one configuration"

    def values(self, metric: str) -> list[float]:
        """A validation metric of each run; `nan` where it was not measured or is not finite."""
        found = (run.measured("val").get(metric) for run in self.runs)
        return [math.nan if value is None else value for value in found]


@dataclass(frozen=True)
class Findings:
    """What is known of a search beside its runs, of which the first, number 0, is the default.

    Args:
        importance: the part of each option in how validation varies; they sum to 1. Empty while there are too few runs.
        evaluator: the method that found it.
        logarithmic: options that were searched on a logarithmic scale.
    """

    importance: dict[str, float]
    evaluator: str
    logarithmic: list[str]


@dataclass
class Sweep:
    """All runs of a sweep.

    Args:
        folder: of the sweep.
        runs: in their order.
        tested: metrics on the test split of each run of the best configuration, where they were measured.
        note: what must be said of test, if anything.
        found: what is known of the runs of a search; `None` of any other sweep.
    """

    folder: Path
    runs: list[SweepRun]
    tested: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""
    found: "Findings | None" = None

    @classmethod
    def read(cls, folder: Path, run: Path) -> "Sweep":
        """The runs of a folder, those of earlier sweeps that this one goes on with among them.

        Args:
            folder: of the sweep.
            run: folder of one run; runs that were set otherwise but for what is varied are left out, and those that did
                not finish but did so at another attempt.
        """
        fixed = Record.read(run).fixed
        found = (SweepRun.read(path.parent) for path in folder.rglob(RECORD))
        runs = [run for run in found if run.record.fixed == fixed]
        finished = [run.record.varied for run in runs if run.record.status == "finished"]
        kept = [run for run in runs if run.record.status == "finished" or run.record.varied not in finished]
        return cls(folder, sorted(kept, key=lambda run: (run.record.number, run.folder.name)))

    @classmethod
    def of_last(cls, folder: Path) -> "Sweep | None":
        """The runs of a folder that are set as the one that began or ended last; `None` where there is none."""
        last = max(folder.rglob(RECORD), key=lambda path: path.stat().st_mtime, default=None)
        return None if last is None else cls.read(folder, last.parent)

    @property
    def keys(self) -> list[str]:
        """What was varied, in the order of the command line."""
        return list(dict.fromkeys(key for run in self.runs for key in run.record.varied))

    @property
    def repeated(self) -> list[str]:
        return [key for key in self.keys if key in REPEATED]

    @property
    def unfinished(self) -> list[SweepRun]:
        """Runs that failed or were interrupted."""
        return [run for run in self.runs if run.record.status not in ("finished", "pruned")]

    @property
    def pruned(self) -> list[SweepRun]:
        return [run for run in self.runs if run.record.status == "pruned"]

    @property
    def _monitored(self) -> list[str]:
        return sorted({run.found["settings"]["monitor"] for run in self.runs if run.measured("val")})

    @cached_property
    def metric(self) -> str:
        """What configurations are ranked by: the metric that all runs monitored, or accuracy where they differ."""
        return self._monitored[0] if len(self._monitored) == 1 else "accuracy"

    @cached_property
    def ranking(self) -> list[Configuration]:
        """Configurations with finished runs: the best mean of `metric` first, equal ones by the lower loss."""
        found: list[Configuration] = []
        for run in self.runs:
            if run.record.status == "finished":
                varied = {key: value for key, value in run.record.varied.items() if key not in REPEATED}
                alike = next((configuration for configuration in found if configuration.varied == varied), None)
                if alike is None:
                    found.append(Configuration(varied, [run]))
                else:
                    alike.runs.append(run)
        return sorted(found, key=self._order)

    def _order(self, configuration: Configuration) -> tuple[float, float]:
        value, loss = mean(configuration.values(self.metric)), mean(configuration.values("loss"))
        rank = value if self.metric == "loss" else -value
        return (math.inf if math.isnan(rank) else rank, math.inf if math.isnan(loss) else loss)

    @property
    def best(self) -> Configuration | None:
        """`None` where no run measured validation."""
        best = self.ranking[0] if self.ranking else None
        return None if best is None or math.isnan(mean(best.values(self.metric))) else best

    @property
    def default(self) -> SweepRun | None:
        """Of a search the run that chose nothing; `None` of any other sweep, or where it did not finish."""
        first = next((run for run in self.runs if run.record.number == 0), None) if self.found else None
        return first if first and first.record.status == "finished" else None

    @property
    def best_run(self) -> SweepRun | None:
        """Of the best configuration the run with the best validation."""
        if self.best is None:
            return None
        return min(self.best.runs, key=lambda run: self._order(Configuration({}, [run])))

    def notes(self) -> list[str]:
        """What must be said beside the ranking."""
        told = [self.note] if self.note else []
        if len(self._monitored) > 1:
            told.append("Runs monitored different metrics: they are ranked by accuracy.")
        if self.best and len({_validation(configuration) for configuration in self.ranking}) > 1:
            told.append("Configurations were validated on different messages: the ranking compares unlike things.")
        return told

    def table(self) -> pd.DataFrame:
        """A row for each run: what was varied, what was measured, and what became of it.

        Test is told of the best configuration alone.
        """
        measured = self.best.runs if self.best and self.tested else []
        tested = dict(zip((run.folder for run in measured), self.tested, strict=True))
        rows = []
        for run in self.runs:
            row: dict[str, Any] = {"run": run.record.number, **{key: run.record.varied.get(key) for key in self.keys}}
            row |= {f"val_{metric}": run.measured("val").get(metric) for metric in METRICS}
            row |= {f"test_{metric}": tested.get(run.folder, {}).get(metric) for metric in METRICS}
            row |= {
                "epoch": run.best.get("epoch"),
                "steps": run.found.get("last", {}).get("step"),
                "seconds": run.seconds,
            }
            rows.append(
                {
                    **row,
                    "status": run.record.status,
                    "reason": run.record.reason,
                    "folder": str(run.folder.relative_to(self.folder)),
                }
            )
        frame = pd.DataFrame(rows)
        for name in ("epoch", "steps"):  # beside runs without them, whole numbers would be floats
            frame[name] = frame[name].convert_dtypes()
        return frame


def _validation(configuration: Configuration) -> frozenset[str]:
    """Which messages the runs of a configuration were validated on: files of hashes that are equal or not."""
    found = set()
    for run in configuration.runs:
        path = run.folder / "splits" / "val.csv"
        if path.is_file():
            found.add(str(pd.util.hash_pandas_object(pd.read_csv(path, usecols=["hash"])["hash"]).sum()))
    return frozenset(found)


def shown(values: Sequence[float], metric: str) -> str:
    """Mean and standard deviation as a person reads them, in percent where the metric is a part."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "–"
    return f"{spread(known)} %" if metric in PERCENT else spread(known, scale=1, digits=4)


def metric_name(metric: str) -> str:
    """As a person reads it."""
    return {"macro_f1": "macro F1", "mcc": "MCC"}.get(metric, metric.replace("_", " "))
