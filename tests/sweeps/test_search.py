"""A search, whatever its trials do: they train nothing here, but leave what a run leaves."""

import json
import logging
import math
import re
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock
from omegaconf import OmegaConf

pytest.importorskip("optuna")

from gpt_classifier.errors import UserError
from gpt_classifier.sweeps.report import page
from gpt_classifier.sweeps.results import Sweep
from gpt_classifier.sweeps.search import DATABASE, Search, Settings
from gpt_classifier.sweeps.space import Choice, Range
from gpt_classifier.training.context import RunContext

SPACE = {"optimizer.lr": Range(1e-4, 1e-1, log=True), "pooling": Choice(("mean", "max", "last_token"))}
DEFAULT = {"optimizer.lr": 3e-3, "pooling": "max", "monitor": "accuracy"}
SAMPLER = OmegaConf.create({"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 4})
PRUNER = OmegaConf.create({"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 2})


def accuracy(settings: dict[str, Any]) -> float:
    """Best at a learning rate of 0.01 with the mean."""
    return (
        0.9 - abs(settings["optimizer.lr"] - 0.01) - {"mean": 0.0, "max": 0.05, "last_token": 0.1}[settings["pooling"]]
    )


class Runs:
    """Stands in for training.

    Args:
        score: validation accuracy of a run, by its settings.
        epochs: of each run; validation is the same after each.
    """

    def __init__(self, score: Callable[[dict[str, Any]], float | None] = accuracy, epochs: int = 1) -> None:
        self.score = score
        self.epochs = epochs
        self.overrides: list[list[str]] = []

    def __call__(self, overrides: Sequence[str], context: RunContext) -> None:
        self.overrides.append(list(overrides))
        given = dict(override.split("=") for override in overrides)
        settings = DEFAULT | given | {"optimizer.lr": float(given.get("optimizer.lr", DEFAULT["optimizer.lr"]))}
        value = self.score(settings)
        assert context.folder is not None
        weights = context.folder / "checkpoints" / "best.ckpt"
        weights.parent.mkdir()
        weights.touch()
        trainer: Any = SimpleNamespace(state=SimpleNamespace(fn="fit"), sanity_checking=False, max_epochs=self.epochs)
        module: Any = SimpleNamespace(measured=True, task=SimpleNamespace(monitor="accuracy"))
        module.evaluation = {"val": {"accuracy": math.nan if value is None else value}}
        for epoch in range(self.epochs):
            trainer.current_epoch, trainer.should_stop = epoch, False
            for callback in context.callbacks:
                callback.on_validation_end(trainer, module)
            if trainer.should_stop:
                break
        validation = {"accuracy": value, "macro_f1": value, "loss": None if value is None else 1 - value}
        found = {"settings": settings, "best": {"epoch": epoch + 1, "val": validation}, "seconds": {"run": 1.0}}
        (context.folder / "metrics.json").write_text(json.dumps(found))


def search(folder: Path, runs: Runs, **changes: Any) -> Search:
    space = changes.pop("space", SPACE)
    settings = Settings(changes.pop("overrides", ["model=gpt2-nano"]), space, changes.pop("seed", 1))
    return Search(folder, settings, runs, SAMPLER, changes.pop("pruner", None))


def chosen(sweep: Sweep) -> list[dict[str, str]]:
    return [run.record.varied for run in sweep.runs]


def test_the_default_comes_first_and_the_search_ends_at_least_as_good(tmp_path: Path) -> None:
    runs = Runs()
    found = search(tmp_path, runs)
    found.run(25)
    sweep = found.sweep()
    assert runs.overrides[0] == ["model=gpt2-nano"]
    assert sweep.default is not None
    assert sweep.default.record.varied == {"optimizer.lr": "0.003", "pooling": "max"}
    assert sweep.best_run is not None
    best = sweep.best_run.measured("val")["accuracy"]
    assert best >= sweep.default.measured("val")["accuracy"]
    assert best > 0.88
    assert sweep.found is not None
    assert sum(sweep.found.importance.values()) == pytest.approx(1)


def test_the_best_run_is_repeated_by_its_overrides(tmp_path: Path) -> None:
    runs = Runs()
    found = search(tmp_path, runs)
    found.run(6)
    best = found.sweep().best_run
    assert best is not None
    assert best.record.number > 0
    assert best.record.overrides == runs.overrides[best.record.number]
    assert all("monitor=accuracy" in overrides for overrides in runs.overrides[1:])  # as the first was


def test_where_nothing_is_better_the_default_wins(tmp_path: Path) -> None:
    found = search(tmp_path, Runs(lambda settings: 0.9 if settings["optimizer.lr"] == 3e-3 else 0.1))
    found.run(6)
    best = found.sweep().best_run
    assert best is not None
    assert best.record.number == 0


def test_a_default_outside_the_space_is_run_and_ranked_all_the_same(tmp_path: Path) -> None:
    found = search(tmp_path, Runs(), space={"pooling": Choice(("mean", "last_token"))})
    found.run(4)
    assert chosen(found.sweep())[0] == {"pooling": "max"}
    assert {run["pooling"] for run in chosen(found.sweep())[1:]} <= {"mean", "last_token"}


class Interrupted(Runs):
    """Ctrl-C, or kill -9, in the middle of a run."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def __call__(self, overrides: Sequence[str], context: RunContext) -> None:
        if len(self.overrides) == self.at:
            raise KeyboardInterrupt
        super().__call__(overrides, context)


@pytest.mark.parametrize("at", [0, 1, 5])
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(tmp_path: Path, at: int) -> None:
    whole = search(tmp_path / "whole", Runs())
    whole.run(8)
    broken = search(tmp_path / "broken", Interrupted(at))
    with pytest.raises(KeyboardInterrupt):
        broken.run(8)
    assert [run.record.status for run in broken.sweep().runs] == ["finished"] * at + ["interrupted"]
    runs = Runs()
    again = search(tmp_path / "broken", runs)
    again.run(8)
    assert len(runs.overrides) == 8 - at
    assert chosen(again.sweep()) == chosen(whole.sweep())


def test_more_trials_go_on_with_a_search_that_ended(tmp_path: Path) -> None:
    search(tmp_path, Runs()).run(3)
    runs = Runs()
    search(tmp_path, runs).run(5)
    assert len(runs.overrides) == 2


def test_bad_trials_are_pruned_but_not_the_default(tmp_path: Path) -> None:
    runs = Runs(lambda settings: {"mean": 0.9, "max": 0.1, "last_token": 0.5}[settings["pooling"]], epochs=3)
    found = search(tmp_path, runs, pruner=PRUNER)
    found.run(14)
    sweep = found.sweep()
    assert sweep.default is not None
    assert sweep.pruned
    assert {run.record.varied["pooling"] for run in sweep.pruned} <= {"max", "last_token"}
    assert all(run.best["epoch"] == 1 and "after epoch 1" in run.record.reason for run in sweep.pruned)
    assert not sweep.unfinished
    assert not {run.folder for run in sweep.pruned} & {run.folder for c in sweep.ranking for run in c.runs}


def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(tmp_path: Path) -> None:
    def score(settings: dict[str, Any]) -> float:
        if settings["pooling"] == "mean":
            raise UserError("data.batch_size: too large.")
        if settings["pooling"] == "last_token":
            raise RuntimeError("CUDA error: out of memory")
        return 0.9

    found = search(tmp_path, Runs(score))
    found.run(10)
    sweep = found.sweep()
    reasons = {run.record.varied["pooling"]: run.record.reason for run in sweep.unfinished}
    assert reasons == {
        "mean": "data.batch_size: too large.",
        "last_token": "RuntimeError: CUDA error: out of memory",
    }
    assert all((run.folder / "error.log").is_file() for run in sweep.unfinished)
    assert len(sweep.runs) == 10


def test_a_run_that_diverged_failed(tmp_path: Path) -> None:
    found = search(tmp_path, Runs(lambda settings: None if settings["pooling"] == "mean" else 0.5))
    found.run(8)
    failed = found.sweep().unfinished
    assert failed
    assert all("it diverged" in run.record.reason and run.record.varied["pooling"] == "mean" for run in failed)


def broken(settings: dict[str, Any]) -> float:
    raise UserError("data.path: no file x.csv.")


def test_a_mistake_in_every_trial_ends_the_search_and_mending_it_begins_anew(tmp_path: Path) -> None:
    runs = Runs(broken)
    with pytest.raises(
        UserError, match=r"The first 3 trials failed, and the search ends. The last: data.path: no file"
    ):
        search(tmp_path, runs).run(30)
    assert len(runs.overrides) == 3
    mended = search(tmp_path, Runs())
    mended.run(3)
    assert [run.record.status for run in mended.sweep().runs] == ["finished"] * 3
    assert mended.sweep().default is not None


def test_a_fault_of_the_program_in_every_trial_keeps_its_traceback(tmp_path: Path) -> None:
    def score(settings: dict[str, Any]) -> float:
        raise KeyError("n_layer")

    with pytest.raises(KeyError):
        search(tmp_path, Runs(score)).run(30)


def test_without_validation_nothing_can_be_compared(tmp_path: Path) -> None:
    class WithoutValidation(Runs):
        def __call__(self, overrides: Sequence[str], context: RunContext) -> None:
            assert context.folder is not None
            found = {"settings": DEFAULT, "last": {"epoch": 1}, "best": {"epoch": 1}}
            (context.folder / "metrics.json").write_text(json.dumps(found))

    with pytest.raises(UserError, match=r"there are no validation messages. Set data.val_fraction"):
        search(tmp_path, WithoutValidation()).run(3)


def test_only_the_best_run_keeps_its_weights(tmp_path: Path) -> None:
    found = search(tmp_path, Runs())
    found.run(8)
    best = found.sweep().best_run
    assert best is not None
    assert [path.parents[1] for path in tmp_path.rglob("best.ckpt")] == [best.folder]


def test_what_was_run_already_is_not_run_again(tmp_path: Path) -> None:
    runs = Runs()
    search(tmp_path, runs, space={"pooling": SPACE["pooling"]}).run(12)
    assert len(runs.overrides) <= 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"space": {"pooling": Choice(("mean", "max"))}},
            "space.pooling was .mean,max,last_token., and is now .mean,max.",
        ),
        ({"seed": 2}, "another search: hparams_search.seed was 1, and is now 2"),
        ({"overrides": ["model=gpt2-small"]}, "options was model=gpt2-nano, and is now model=gpt2-small"),
    ],
)
def test_a_folder_holds_one_search(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    search(tmp_path, Runs()).run(2)
    with pytest.raises(UserError, match=told):
        search(tmp_path, Runs(), **changes).run(3)


def test_a_damaged_file_is_told_and_the_trials_stay(tmp_path: Path) -> None:
    search(tmp_path, Runs()).run(2)
    (tmp_path / DATABASE).write_bytes(b"SQLite format 3\0" + b"x" * 500)
    with pytest.raises(UserError, match=rf"{DATABASE} can't be used: .*search anew in another folder"):
        search(tmp_path, Runs()).run(3)
    assert (tmp_path / "trials" / "1" / "metrics.json").is_file()


def test_a_folder_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / DATABASE).mkdir()
    with pytest.raises(UserError, match=rf"{DATABASE} can't be used: .*unable to open"):
        search(tmp_path, Runs()).run(2)


def test_two_searches_do_not_share_a_folder(tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(UserError, match="another search is running there"):
        search(tmp_path, Runs()).run(2)


def test_everything_is_in_one_file_and_a_folder_for_each_trial(tmp_path: Path) -> None:
    search(tmp_path / "a folder?", Runs()).run(3)
    names = {path.name for path in (tmp_path / "a folder?").iterdir()} - {".lock"}
    assert names == {DATABASE, "trials"}
    with sqlite3.connect(tmp_path / "a folder?" / DATABASE) as database:
        assert database.execute("select count(*) from trials").fetchone() == (3,)


def test_the_terminal_has_two_lines_for_a_trial_and_its_folder_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Talking(Runs):
        def __call__(self, overrides: Sequence[str], context: RunContext) -> None:
            logging.getLogger("gpt_classifier.training").info("epoch 1/5")
            super().__call__(overrides, context)

    caplog.set_level(logging.INFO)
    search(tmp_path, Talking()).run(2)
    assert (tmp_path / "trials" / "1" / "train.log").read_text().startswith("epoch 1/5")
    told = [record.getMessage() for record in caplog.records if record.name.endswith("search")]
    assert len(told) == 4
    assert re.match(r"trial 1 \(2 of 2\): optimizer.lr=[\d.e-]+ pooling=\w+", told[2])


def test_the_page_shows_pictures_and_the_default(tmp_path: Path) -> None:
    found = search(tmp_path, Runs(epochs=2), pruner=PRUNER)
    found.run(12)
    text = page(found.sweep(), "gpt-classifier train")
    assert text.count("<svg") == 3
    assert "(default)" in text
    assert "fANOVA" in text
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]+"', "", text)
