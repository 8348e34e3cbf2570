"""Questions about a setting, answered by trainings: which there are, running them, a table of what they gave."""

import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf, open_dict

from gpt_classifier.assets import ASSETS
from gpt_classifier.config import compose, conf_folder
from gpt_classifier.errors import UserError, expect_number


@dataclass(frozen=True)
class Question:
    """A row of the table.

    Args:
        experiment: its file below `conf/experiment`, such as `book/02_first_token`.
        number: what `--rows` calls it: the number that the file's name starts with, else the experiment.
        asks: what it varies, in words.
        published: test accuracy in percent that was published for it; `None` if there is none.
        overrides: for `train.py`, but for seed and folder.
        identity: hash of the composed settings and of the files that they name; equal questions have equal ones.
        applies: `False` if the row names a backbone, and the command another one.
    """

    experiment: str
    number: str
    asks: str
    published: float | None
    overrides: tuple[str, ...]
    identity: str
    applies: bool


def find_questions(rows: str, model: str | None, overrides: Sequence[str]) -> list[Question]:
    """The questions that a command names.

    Args:
        rows: numbers of `conf/experiment/book`, `all` of them, or names of any experiment, with commas between.
        model: backbone for all of them; `None` leaves each row its own.
        overrides: further Hydra overrides for all of them.

    Raises:
        UserError: a row that does not exist, or an override that does not fit.
    """
    conf = conf_folder()
    numbered = {
        str(int(path.name[:2])): f"book/{path.stem}" for path in sorted(conf.glob("experiment/book/[0-9][0-9]_*.yaml"))
    }
    for override in overrides:
        if override.startswith(("model=", "seed=", "experiment=", "hydra.run.dir=")):
            raise UserError(f"{override}: set it by --model, --seeds, --rows or --out, so that the table says so.")
    names = list(numbered) if rows == "all" else [row.strip() for row in rows.split(",") if row.strip()]
    for name in names or [rows]:
        if name not in numbered and not (conf / "experiment" / f"{name}.yaml").is_file():
            raise UserError(
                f"--rows: expected all, numbers from 1 to {len(numbered)}, or files of conf/experiment without .yaml, "
                f"but there is no {name!r}. Write them as in --rows 1,2,book/exercise_6_1."
            )
    default = _backbone([])
    return [_question(numbered.get(name, name), name, model, default, overrides) for name in dict.fromkeys(names)]


def _question(experiment: str, number: str, model: str | None, default: str, overrides: Sequence[str]) -> Question:
    command = [f"experiment={experiment}", *([f"model={model}"] if model else []), *overrides]
    applies = model is None or _backbone([f"experiment={experiment}"]) in (model, default)
    cfg = compose(command)
    asked: Any = OmegaConf.to_container(cfg.question) if OmegaConf.is_config(cfg.get("question")) else {}
    published = asked.get("published")
    if published is not None:
        expect_number(f"{experiment}: question.published (percent)", published, 0, 100)
    with open_dict(cfg):
        for key in ("question", "seed"):
            cfg.pop(key, None)
    identity = hashlib.sha256((OmegaConf.to_yaml(cfg) + _files(cfg)).encode()).hexdigest()[:10]
    asks = str(asked.get("asks", experiment))
    return Question(experiment, number, asks, published, tuple(command), identity, applies)


def _files(cfg: DictConfig) -> str:
    """The files of weights and messages as they are now: with other content they are other questions."""
    named = [cfg.model.weights, OmegaConf.select(cfg, "data.path")]
    if cfg.model.weights == "pretrained" and cfg.model.hub:
        named.append(str(ASSETS / cfg.model.hub / "model.safetensors"))
    stats = []
    for name in named:
        path = Path(str(name)).expanduser()
        if path.is_file():
            stats.append(f"{path.stat().st_size} {path.stat().st_mtime_ns}")
    return str(stats)


def _backbone(overrides: Sequence[str]) -> str:
    return compose(overrides, hydra_too=True).hydra.runtime.choices.model


@dataclass(frozen=True)
class Answer:
    """What the trainings of a question gave, one value a seed.

    Args:
        question: the question.
        accuracies: of the last weights, by split, parts of 1.
        seconds: of each training with all its measurements.
        parameters: that were trained.
        memory_gb: the largest peak of a process; `None` where it is not known.
    """

    question: Question
    accuracies: dict[str, list[float]]
    seconds: list[float]
    parameters: int
    memory_gb: float | None


class Runner:
    """Trains what is not trained yet, each in a process of its own.

    Args:
        command: that takes Hydra overrides, such as `[python, train.py]`.
        folder: for the folders of the runs; what is finished there is not run again.
        say: where progress goes.
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
        """Train every question with every seed.

        Args:
            questions: to answer.
            seeds: of each.
            show: is told at the end, and after each training, what is known so far.

        Returns:
            An answer for each question that has runs, and what went wrong elsewhere, a line each.

        Raises:
            UserError: another command is at work in the folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                return self._answer(questions, seeds, show)
        except Timeout as error:
            raise UserError(
                f"--out: another command is at work in {self.folder}. Wait for it, or name another folder."
            ) from error

    def _answer(
        self, questions: Sequence[Question], seeds: Sequence[int], show: Callable[[list[Answer]], object]
    ) -> tuple[list[Answer], list[str]]:
        wanted: dict[tuple[str, int], Question] = {}
        for question in questions:
            for seed in seeds if question.applies else ():
                wanted.setdefault((question.identity, seed), question)
        waiting = [(key, q) for key, q in wanted.items() if not self._is_done(q, key[1])]
        if len(waiting) < len(wanted):
            self.say(f"{len(wanted) - len(waiting)} of {len(wanted)} trainings are already in {self.folder}")
        failures, took = [], 0.0
        for i, ((_, seed), question) in enumerate(waiting):
            began = time.perf_counter()
            failure = self._train(question, seed)
            took += time.perf_counter() - began
            result = failure or f"test {self._result(question, seed)['last']['test']['accuracy']:.2%}"
            left = took / (i + 1) * (len(waiting) - i - 1)
            self.say(
                f"[{i + 1}/{len(waiting)}] row {question.number}, {question.asks}, seed {seed}: {result} "
                f"in {time.perf_counter() - began:.0f} s{f', about {_duration(left)} left' if left else ''}"
            )
            if failure:
                failures.append(f"row {question.number}, seed {seed}: {failure}")
            show(self._collect_all(questions, seeds))
        answers = self._collect_all(questions, seeds)
        show(answers)
        return answers, failures

    def _collect_all(self, questions: Sequence[Question], seeds: Sequence[int]) -> list[Answer]:
        return [found for q in questions if q.applies if (found := self._collect(q, seeds))]

    def _run_folder(self, question: Question, seed: int) -> Path:
        """Rows with equal settings share their runs."""
        found = sorted(self.folder.glob(f"*-{question.identity}"))
        name = f"{question.experiment.replace('/', '_')}-{question.identity}"
        return (found[0] if found else self.folder / name) / f"seed{seed}"

    def _is_done(self, question: Question, seed: int) -> bool:
        return (self._run_folder(question, seed) / "done").exists()

    def _result(self, question: Question, seed: int) -> dict[str, Any]:
        return json.loads((self._run_folder(question, seed) / "metrics.json").read_text(encoding="utf-8"))

    def _train(self, question: Question, seed: int) -> str:
        """An empty string, or what went wrong."""
        folder = self._run_folder(question, seed)
        shutil.rmtree(folder, ignore_errors=True)  # what an interruption left
        folder.mkdir(parents=True)
        places = [f"seed={seed}", f"hydra.run.dir='{folder}'"]  # quoted, or Hydra trips over spaces
        # nothing here goes on with a training, whose last.ckpt may be gigabytes
        places = ["~callbacks.last", "+trainer.enable_checkpointing=false", *places]
        with (folder / "output.txt").open("w", encoding="utf-8") as output:
            code = subprocess.run(
                [*self.command, *question.overrides, *places], stdout=output, stderr=output, check=False
            ).returncode
        if code == 0 and (folder / "metrics.json").exists():
            (folder / "done").touch()
            return ""
        lines = (folder / "output.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        told = [line for line in lines if line.strip() and "HYDRA_FULL_ERROR" not in line] or ["no output"]
        return f"failed with status {code}: {told[-1]} (all of it in {folder / 'output.txt'})"

    def _collect(self, question: Question, seeds: Iterable[int]) -> Answer | None:
        runs = [self._result(question, seed) for seed in seeds if self._is_done(question, seed)]
        if not runs:
            return None
        memory = [run["peak_memory_gb"] for run in runs if run["peak_memory_gb"] is not None]
        return Answer(
            question,
            {split: [run["last"][split]["accuracy"] for run in runs] for split in ("train", "val", "test")},
            [run["seconds"]["run"] for run in runs],
            runs[0]["parameters"]["trained"],
            max(memory) if memory else None,
        )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


NOT_APPLICABLE = "not applicable: the row names its own backbone"


def table(questions: Sequence[Question], answers: Sequence[Answer]) -> str:
    """Markdown: accuracies of the last weights in percent, mean ± standard deviation over seeds."""
    found = {answer.question.number: answer for answer in answers}
    head = ["row", "question", "training", "validation", "test", "published test", "seeds", "seconds"]
    head += ["trained parameters", "peak memory, GB"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for question in questions:
        answer = found.get(question.number)
        cells = [question.number, question.asks]
        published = "" if question.published is None else f"{question.published:.2f}"
        if answer is None:
            state = NOT_APPLICABLE if not question.applies else "not finished"
            cells += [state, "", "", published, "", "", "", ""]
        else:
            cells += [_spread(answer.accuracies[split]) for split in ("train", "val", "test")]
            memory = "" if answer.memory_gb is None else f"{answer.memory_gb:.2f}"
            seconds = f"{mean(answer.seconds):.0f}"
            cells += [published, str(len(answer.seconds)), seconds, f"{answer.parameters:,}", memory]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _spread(parts: Sequence[float]) -> str:
    percents = [100 * part for part in parts]
    return f"{mean(percents):.2f}" + (f" ± {stdev(percents):.2f}" if len(percents) > 1 else "")


def as_frame(answers: Sequence[Answer]) -> pd.DataFrame:
    """One row a question; accuracies are parts of 1."""
    rows = []
    for answer in answers:
        question = answer.question
        row: dict[str, Any] = {"row": question.number, "question": question.asks}
        for split, values in answer.accuracies.items():
            row |= {f"{split}_mean": mean(values), f"{split}_sd": stdev(values) if len(values) > 1 else None}
        row["published_test"] = None if question.published is None else question.published / 100
        row |= {"seeds": len(answer.seconds), "seconds": mean(answer.seconds), "trained_parameters": answer.parameters}
        rows.append({**row, "peak_memory_gb": answer.memory_gb})
    return pd.DataFrame(rows)


def chart(answers: Sequence[Answer], title: str, path: Path) -> None:
    """Accuracies of training, validation and test beside the published test accuracy, a row each."""
    from gpt_classifier.figures import BLUE, ORANGE, one_axes, plain

    figure, axes = one_axes(8, 1.2 + 0.42 * len(answers))
    places = range(len(answers))
    series = (
        ("train", "training", "#bbbbbb", 0.22),
        ("val", "validation", "#66aa88", 0.0),
        ("test", "test", BLUE, -0.22),
    )
    for split, label, color, shift in series:
        values = [[100 * value for value in answer.accuracies[split]] for answer in answers]
        axes.errorbar(
            [mean(value) for value in values],
            [place - shift for place in places],
            xerr=[stdev(value) if len(value) > 1 else 0 for value in values],
            fmt="o",
            color=color,
            label=label,
            markersize=5,
            capsize=3,
        )
    published = [(a.question.published, place + 0.22) for place, a in enumerate(answers) if a.question.published]
    if published:
        axes.plot(*zip(*published, strict=True), "x", color=ORANGE, label="published test", markersize=7)
    axes.set_yticks(places, [f"{answer.question.number}  {plain(answer.question.asks, 40)}" for answer in answers])
    axes.invert_yaxis()
    axes.set_xlabel("accuracy, % (last weights; mean and standard deviation over seeds)")
    axes.set_title(title, fontsize="medium")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)
