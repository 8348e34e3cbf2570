"""A runner of experiments: which runs a table needs, running those that are missing, and the table.

An experiment is a file below `experiment/`, in `conf/` or in a folder of the user's. Its node `question` says what the
table shows; everything else is what `experiment=NAME` sets.
"""

import functools
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from gpt_classifier.assets import ASSETS
from gpt_classifier.config import compose, conf_folder
from gpt_classifier.errors import OptionError, expect_number, expect_one_of

BASELINE = "gpt_classifier.evaluation.baseline_run.run_baseline"
"""What `procedure=baseline` calls: of a configuration it reads the data alone, and no seed."""

SPLITS = ("train", "val", "test")

READ_AT_EVERY_START = 64 * 2**20
"""Files of at most that many bytes are hashed at every start; the hashes of larger ones are remembered."""


@dataclass(frozen=True)
class Question:
    """A row of the table.

    Args:
        experiment: its file below `experiment/`, without `.yaml`, such as `book/02_first_token`.
        row: its name in the table.
        asks: what it varies, in words.
        published: test accuracy in percent that was published for it; `None` if there is none.
        overrides: for `train.py`, except seed and output folder.
        identity: hash of the composed settings and of the content of the files they name. Questions with the same
            identity share their runs.
        not_run: why it is not run; empty if it is.
        note: what must be said beside its results; empty if nothing.
        once: whether seeds make no difference, so that one is run.
        weights: `last`, as the book reports; or `best`, those that validation chose, and then training is not measured.
        released: the repository of the Hugging Face Hub that its weights are from; empty if none.
        revision: commit, tag or branch of that repository; `None` for its main branch.
    """

    experiment: str
    row: str
    asks: str
    published: float | None
    overrides: tuple[str, ...]
    identity: str
    not_run: str = ""
    note: str = ""
    once: bool = False
    weights: str = "last"
    released: str = ""
    revision: str | None = None

    @property
    def measured(self) -> Sequence[str]:
        """Splits that its runs measure."""
        return SPLITS if self.weights == "last" else SPLITS[1:]

    def seeds(self, seeds: Sequence[int]) -> Sequence[int]:
        """Those of some seeds that it is run with."""
        return () if self.not_run else seeds[:1] if self.once else seeds


def has_experiment(name: str, config_dir: Path | None = None) -> bool:
    """Whether there is an experiment of a name, in `conf/` or in a folder of the user's."""
    folders = [conf_folder(), *([config_dir] if config_dir else [])]
    return any((folder / "experiment" / f"{name}.yaml").is_file() for folder in folders)


def find_questions(
    experiments: Sequence[str], overrides: Sequence[str] = (), config_dir: Path | None = None
) -> list[Question]:
    """A question for each experiment, its row named after it, or several.

    Where its `question.each` names options with several values, there is one for each combination of these, and its row
    ends with them; an option that is among the overrides has the value that it has there.

    Args:
        experiments: files below `experiment/`, without `.yaml`.
        overrides: further Hydra overrides for all of them. The runner itself sets `seed` and `hydra.run.dir`.
        config_dir: a folder of the user's with further experiments in its `experiment/`; `None` for those of `conf/`
            alone.

    Raises:
        UserError: an experiment that does not exist, or an override that does not fit.
    """
    content = functools.cache(_content)
    return [
        _question(experiment, chosen, overrides, cfg, content)
        for experiment in experiments
        for chosen, cfg in _combinations(experiment, overrides, config_dir)
    ]


def _asked(cfg: DictConfig) -> dict[str, Any]:
    """The node `question` of an experiment."""
    asked: Any = OmegaConf.to_container(cfg.question) if OmegaConf.is_config(cfg.get("question")) else {}
    return asked


def _combinations(
    experiment: str, overrides: Sequence[str], config_dir: Path | None
) -> Iterator[tuple[tuple[str, ...], DictConfig]]:
    """The overrides of each of an experiment's questions, none of its only one, and its configuration."""
    cfg = compose([f"experiment={experiment}", *overrides], config_dir=config_dir)
    each = _asked(cfg).get("each") or {}
    if not isinstance(each, dict) or not all(isinstance(values, list) and values for values in each.values()):
        raise OptionError(
            f"{experiment}: question.each", "options, each with a list of values, such as {freeze: [none, lora]}", each
        )
    given = {override.partition("=")[0] for override in overrides}
    axes = [[f"{key}={value}" for value in values] for key, values in each.items() if key not in given]
    for chosen in product(*axes):
        yield (
            chosen,
            compose([f"experiment={experiment}", *chosen, *overrides], config_dir=config_dir) if chosen else cfg,
        )


def _question(
    experiment: str,
    chosen: Sequence[str],
    overrides: Sequence[str],
    cfg: DictConfig,
    content: Callable[[Path, str], Any],
) -> Question:
    asked = _asked(cfg)
    published = asked.get("published")
    if published is not None:
        expect_number(f"{experiment}: question.published (percent)", published, 0, 100)
    weights = str(asked.get("weights", "last"))
    expect_one_of(f"{experiment}: question.weights", weights, ("last", "best"))
    reads_texts = cfg.procedure.get("_target_") == BASELINE
    return Question(
        experiment,
        " ".join([experiment, *chosen]),
        str(asked.get("asks", experiment)),
        published,
        (f"experiment={experiment}", *chosen, *overrides),
        _identity(cfg, content),
        note=str(asked.get("note", "")),
        once=reads_texts,
        weights=weights,
        released="" if reads_texts else _released(cfg),
        revision=cfg.model.get("revision"),
    )


def _released(cfg: DictConfig) -> str:
    """The repository that a run's weights are from, if they do not come with the package."""
    hub = cfg.model.get("hub")
    return str(hub) if cfg.model.weights == "pretrained" and hub and not (ASSETS / str(hub)).is_dir() else ""


def _identity(cfg: DictConfig, content: Callable[[Path, str], Any]) -> str:
    """Hash of the settings with the content of each file in place of its path: where a file is does not matter."""
    settings: Any = OmegaConf.to_container(cfg)
    for key in ("question", "seed"):
        settings.pop(key, None)
    if _asked(cfg).get("weights") == "best":
        settings["weights"] = "best"  # other splits are measured
    memory = Path(cfg.cache_dir).expanduser() / "weights.json"
    for group in ("model", "data"):
        resolved = OmegaConf.to_container(cfg[group], resolve=True)
        settings[group] = _by_content(settings[group], resolved, functools.partial(content, memory))
    weights = str(ASSETS / str(cfg.model.hub)) if cfg.model.weights == "pretrained" else str(cfg.model.weights)
    if Path(weights).expanduser().is_dir():
        settings["model"]["weights"] = content(memory, weights)
    if settings["procedure"].get("_target_") == BASELINE:
        settings = {key: settings[key] for key in ("data", "procedure", "weights") if key in settings}
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:10]


def _by_content(plain: Any, resolved: Any, content: Callable[[str], Any]) -> Any:
    """Settings with the content of files in place of their paths.

    Args:
        plain: settings with interpolations, which stay as they are unless they name a file.
        resolved: the same settings without interpolations.
        content: of a file.
    """
    if isinstance(plain, dict):
        return {key: _by_content(value, resolved[key], content) for key, value in plain.items()}
    if isinstance(plain, list):
        return [_by_content(*pair, content) for pair in zip(plain, resolved, strict=True)]
    # Path.is_file would raise for a text that is too long for a path
    is_file = isinstance(resolved, str) and os.path.isfile(os.path.expanduser(resolved))
    return content(resolved) if is_file else plain


def _content(memory: Path, name: str) -> Any:
    """sha256 of a file's content; for a folder of weights, of each of its files.

    Args:
        memory: where the hashes of large files are remembered, see `gpt_classifier.models.weights.content_hash`.
        name: path of the file or folder.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        files = [file for file in path.iterdir() if file.suffix in (".safetensors", ".json", ".tiktoken")]
        return {file.name: _content(memory, str(file)) for file in files}
    if path.stat().st_size > READ_AT_EVERY_START:
        from gpt_classifier.models.weights import content_hash  # torch takes seconds to import

        return content_hash(path, memory)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Answer:
    """The results of a question's runs, one value per seed.

    Args:
        question: the question.
        accuracies: by split, from 0 to 1, of the weights that the question is about.
        seconds: of each whole run, evaluations included.
        parameters: number of trained parameters.
        memory_gb: the largest peak memory of a run in GB (10^9 bytes); `None` if unknown.
        note: what the first run must say beside them; empty if nothing.
    """

    question: Question
    accuracies: dict[str, list[float]]
    seconds: list[float]
    parameters: int
    memory_gb: float | None
    note: str = ""


class Runner:
    """Runs the missing experiments, each in a process of its own.

    Args:
        command: a command that takes Hydra overrides, such as `[python, train.py]`.
        folder: where each run gets a folder; runs that are finished there are not repeated.
        say: called with each line of progress.
    """

    def __init__(self, command: Sequence[str], folder: Path, say: Callable[[str], None] = print) -> None:
        self.command = list(command)
        self.folder = folder
        self.say = say

    def answer(
        self,
        questions: Sequence[Question],
        seeds: Sequence[int],
        show: Callable[[list[Answer]], object] = lambda answers: None,
    ) -> tuple[list[Answer], list[str]]:
        """Run every question with every seed.

        Args:
            questions: the rows of the table.
            seeds: one run of each question per seed.
            show: called with the answers so far after each run, and once at the end.

        Returns:
            An answer for each question that has finished runs, and a line for each run that failed.

        Raises:
            OptionError: another command is using the folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                return self._answer(questions, seeds, show)
        except Timeout as error:
            raise OptionError(
                "folder",
                "a folder that no other command is using",
                self.folder,
                "Wait until the other command has finished, or set {field} to another folder.",
            ) from error

    def _answer(
        self, questions: Sequence[Question], seeds: Sequence[int], show: Callable[[list[Answer]], object]
    ) -> tuple[list[Answer], list[str]]:
        wanted: dict[tuple[str, int], Question] = {}
        for question in questions:
            for seed in question.seeds(seeds):
                wanted.setdefault((question.identity, seed), question)
        waiting = [(key, q) for key, q in wanted.items() if not self._is_done(q, key[1])]
        if len(waiting) < len(wanted):
            self.say(f"{len(wanted) - len(waiting)} of {len(wanted)} runs are already in {self.folder}")
        failures, took = [], 0.0
        for i, ((_, seed), question) in enumerate(waiting):
            began = time.perf_counter()
            failure = self._run(question, seed)
            took += time.perf_counter() - began
            result = failure or f"test {self._result(question, seed)[question.weights]['test']['accuracy']:.2%}"
            left = took / (i + 1) * (len(waiting) - i - 1)
            self.say(
                f"[{i + 1}/{len(waiting)}] row {question.row}, {question.asks}, seed {seed}: {result} "
                f"in {time.perf_counter() - began:.0f} s{f', about {_duration(left)} left' if left else ''}"
            )
            if failure:
                failures.append(f"row {question.row}, seed {seed}: {failure}")
            show(self._collect_all(questions, seeds))
        answers = self._collect_all(questions, seeds)
        show(answers)
        return answers, failures

    def _collect_all(self, questions: Sequence[Question], seeds: Sequence[int]) -> list[Answer]:
        return [found for q in questions if not q.not_run if (found := self._collect(q, seeds))]

    def _run_folder(self, question: Question, seed: int) -> Path:
        """The same for rows with the same identity: they share their runs."""
        found = sorted(self.folder.glob(f"*-{question.identity}"))
        name = f"{question.experiment.replace('/', '_')}-{question.identity}"
        return (found[0] if found else self.folder / name) / f"seed{seed}"

    def _is_done(self, question: Question, seed: int) -> bool:
        return (self._run_folder(question, seed) / "done").exists()

    def _result(self, question: Question, seed: int) -> dict[str, Any]:
        return json.loads((self._run_folder(question, seed) / "metrics.json").read_text(encoding="utf-8"))

    def _run(self, question: Question, seed: int) -> str:
        """An empty string, or why the run failed."""
        folder = self._run_folder(question, seed)
        shutil.rmtree(folder, ignore_errors=True)  # left by a run that was interrupted
        folder.mkdir(parents=True)
        places = [f"seed={seed}", f"hydra.run.dir='{folder}'"]  # quoted, or Hydra trips over spaces
        measured = ["evaluate=final"]
        if question.weights == "last":
            measured = ["evaluate=all", "+trainer.enable_checkpointing=false"]
        places = ["~callbacks.last", *measured, *places]  # no run here is resumed, and a last.ckpt may be gigabytes
        with (folder / "output.txt").open("w", encoding="utf-8") as output:
            code = subprocess.run(
                [*self.command, *question.overrides, *places], stdout=output, stderr=output, check=False
            ).returncode
        if code == 0 and (folder / "metrics.json").exists():
            (folder / "done").touch()
            return ""
        lines = (folder / "output.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        printed = [line for line in lines if line.strip() and "HYDRA_FULL_ERROR" not in line] or ["no output"]
        return f"failed with status {code}: {printed[-1]} (whole output in {folder / 'output.txt'})"

    def _collect(self, question: Question, seeds: Sequence[int]) -> Answer | None:
        runs = [self._result(question, seed) for seed in question.seeds(seeds) if self._is_done(question, seed)]
        if not runs:
            return None
        memory = [run["peak_memory_gb"] for run in runs if run["peak_memory_gb"] is not None]
        return Answer(
            question,
            {split: [run[question.weights][split]["accuracy"] for run in runs] for split in question.measured},
            [run["seconds"]["run"] for run in runs],
            runs[0]["parameters"]["trained"],
            max(memory) if memory else None,
            runs[0].get("note", ""),
        )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def table(questions: Sequence[Question], answers: Sequence[Answer]) -> str:
    """A Markdown table: accuracies in percent, mean ± standard deviation over seeds.

    It has a column of notes where there are any.
    """
    found = {answer.question.row: answer for answer in answers}
    head = ["row", "question", "training", "validation", "test", "published test", "seeds", "seconds"]
    head += ["trained parameters", "peak memory, GB"]
    noted = any(question.note for question in questions) or any(answer.note for answer in answers)
    head += ["notes"] * noted
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for question in questions:
        answer = found.get(question.row)
        cells = [question.row, question.asks]
        published = "" if question.published is None else f"{question.published:.2f}"
        if answer is None:
            cells += [question.not_run or "not finished", "", "", published, "", "", "", ""]
        else:
            cells += [spread(answer.accuracies.get(split, [])) for split in SPLITS]
            memory = "" if answer.memory_gb is None else f"{answer.memory_gb:.2f}"
            seconds = f"{mean(answer.seconds):.0f}"
            cells += [published, str(len(answer.seconds)), seconds, f"{answer.parameters:,}", memory]
        notes = (question.note, answer.note if answer else "")
        cells += ["; ".join(filter(None, notes))] * noted
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(values: Sequence[float], scale: float = 100, digits: int = 2) -> str:
    """Mean and standard deviation of values times `scale`, by default of parts in percent; empty of none."""
    scaled = [scale * value for value in values]
    if not scaled:
        return ""
    return f"{mean(scaled):.{digits}f}" + (f" ± {stdev(scaled):.{digits}f}" if len(scaled) > 1 else "")


def as_frame(answers: Sequence[Answer]) -> pd.DataFrame:
    """One row per question; accuracies are from 0 to 1."""
    rows = []
    for answer in answers:
        question = answer.question
        row: dict[str, Any] = {"row": question.row, "question": question.asks}
        for split, values in answer.accuracies.items():
            row |= {f"{split}_mean": mean(values), f"{split}_sd": stdev(values) if len(values) > 1 else None}
        row["published_test"] = None if question.published is None else question.published / 100
        row |= {"seeds": len(answer.seconds), "seconds": mean(answer.seconds), "trained_parameters": answer.parameters}
        note = "; ".join(filter(None, (question.note, answer.note)))
        rows.append({**row, "peak_memory_gb": answer.memory_gb, "notes": note})
    return pd.DataFrame(rows)


def _weights(answers: Sequence[Answer]) -> str:
    return " or ".join(sorted({answer.question.weights for answer in answers}, reverse=True)) or "last"


def chart(answers: Sequence[Answer], title: str, path: Path) -> None:
    """Save a chart with one row per answer: accuracy on training, validation and test, and as published on test."""
    from gpt_classifier.figures import BLUE, ORANGE, one_axes, plain, save

    figure, axes = one_axes(8, 1.2 + 0.42 * len(answers))
    places = range(len(answers))
    series = (
        ("train", "training", "#bbbbbb", 0.22),
        ("val", "validation", "#66aa88", 0.0),
        ("test", "test", BLUE, -0.22),
    )
    for split, label, color, shift in series:
        measured = [
            (place, answer.accuracies[split]) for place, answer in enumerate(answers) if split in answer.accuracies
        ]
        axes.errorbar(
            [100 * mean(values) for _, values in measured],
            [place - shift for place, _ in measured],
            xerr=[100 * stdev(values) if len(values) > 1 else 0 for _, values in measured],
            fmt="o",
            color=color,
            label=label,
            markersize=5,
            capsize=3,
        )
    published = [(a.question.published, place + 0.22) for place, a in enumerate(answers) if a.question.published]
    if published:
        axes.plot(*zip(*published, strict=True), "x", color=ORANGE, label="published test", markersize=7)
    axes.set_yticks(places, [f"{answer.question.row}  {plain(answer.question.asks, 40)}" for answer in answers])
    axes.invert_yaxis()
    axes.set_xlabel(f"accuracy, % ({_weights(answers)} weights; mean and standard deviation over seeds)")
    axes.set_title(title, fontsize="medium")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize="small")
    save(figure, path)
