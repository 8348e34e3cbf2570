"""Names of a sweep's runs, and what is told at its end, however it ends. But for one, no test here trains anything."""

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import SMALL
from hydra.core.hydra_config import HydraConfig
from hydra.errors import MissingConfigException
from omegaconf import DictConfig

from gpt_classifier.commands.application import run_context, run_hydra
from gpt_classifier.commands.sweep import repeat
from gpt_classifier.commands.train import main
from gpt_classifier.config import compose, explain
from gpt_classifier.errors import UserError


@pytest.fixture(autouse=True)
def in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gpt-classifier", "train"])


def names(*arguments: str) -> list[str]:
    """Of the folders of a sweep's runs."""
    found: list[str] = []
    run_hydra(lambda cfg: found.append(Path(HydraConfig.get().runtime.output_dir).name), "config", ["-m", *arguments])
    return found


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["experiment=quickstart", "freeze=head_only,none", "seed=1"],
            ["0_freeze-head_only", "1_freeze-none"],
        ),
        (["seed=1,2", "optimizer.lr=choice(1e-3)"], ["0_seed-1+optimizer.lr-0.001", "1_seed-2+optimizer.lr-0.001"]),
        (["seed=range(1,3)"], ["0_seed-1", "1_seed-2"]),
        (["freeze=glob(last_t*)", "+trainer.max_time=a,b"], [
            "0_freeze-last_two_blocks+trainer.max_time-a",
            "1_freeze-last_two_blocks+trainer.max_time-b",
        ]),
        (["seed=1,2", "seed=3"], ["0"]),
        (["seed=3", "seed=1,2"], ["0_seed-1", "1_seed-2"]),
        (["seed=4,4"], ["0_seed-4", "1_seed-4"]),
        (["data=csv", "data.path='a b,c.csv',../d/e.csv"], ["0_data.path-a_b_c.csv", "1_data.path-.._d_e.csv"]),
        (["data=csv", "data.path=x.,y."], ["0_data.path-x", "1_data.path-y"]),
    ],
)  # fmt: skip
def test_runs_are_named_by_their_number_and_what_is_varied(arguments: list[str], expected: list[str]) -> None:
    assert names(*arguments) == expected


def test_runs_of_a_sweep_of_pretrainings_are_named_alike() -> None:
    run_hydra(lambda cfg: None, "pretrain", ["-m", "data.path=x", "tokens=1,2"])
    found = Path("outputs/pretraining/sweeps").glob("*/*/*/")
    assert sorted(path.name for path in found if path.is_dir()) == ["0_tokens-1", "1_tokens-2"]


def test_names_are_short_safe_and_can_be_part_of_an_override() -> None:
    long = f"'{'x' * 300}/größe:<>|?*.csv','{'y' * 300}.csv'"
    found = names("data=csv", f"data.path={long}", f"data.val_path=choice('{'z' * 99}')", "data.test_path=choice(t)")
    assert len(set(found)) == 2
    for name in found:
        assert len(name) <= 120
        assert re.fullmatch(r"[A-Za-z0-9._+-]+", name)
        assert compose([f"ckpt_path=outputs/{name}/last.ckpt"]).ckpt_path == f"outputs/{name}/last.ckpt"


def test_a_run_is_told_what_its_sweep_varies() -> None:
    found: list[Any] = []
    run_hydra(
        lambda cfg: found.append(run_context().varied),
        "config",
        ["-m", "seed=1,2", "freeze=none", "model=glob(gpt2-n*)"],
    )
    run_hydra(lambda cfg: found.append(run_context().varied), "config", ["seed=1"])
    assert found == [{"seed": "1", "model": "gpt2-nano"}, {"seed": "2", "model": "gpt2-nano"}, {}]


def finishing(score: Callable[[DictConfig], float]) -> Callable[[DictConfig], None]:
    """A run that leaves what `metrics.json` has of one, without training."""

    def task(cfg: DictConfig) -> None:
        measured = dict.fromkeys(("accuracy", "macro_f1", "balanced_accuracy", "mcc"), score(cfg))
        validation = {**measured, "loss": 1 - score(cfg), "messages": 10}
        found = {
            "settings": {"monitor": "accuracy"},
            "best": {"epoch": 1, "step": 8, "val": validation, "test": validation},
            "last": {"epoch": 2, "step": 16},
            "seconds": {"run": 1.5},
        }
        (Path(HydraConfig.get().runtime.output_dir) / "metrics.json").write_text(json.dumps(found))

    return task


def sweep(task: Callable[[DictConfig], Any], *arguments: str) -> None:
    run_hydra(task, "config", ["-m", "hydra.sweep.dir=swept", *arguments], ranked=True)


def test_a_sweep_ends_with_a_ranking_over_seeds_and_files(capsys: pytest.CaptureFixture) -> None:
    rates = {0.1: 0.5, 0.2: 0.8}
    sweep(finishing(lambda cfg: rates[cfg.optimizer.lr] + cfg.seed / 100), "optimizer.lr=0.1,0.2", "seed=1,3")
    told = capsys.readouterr().out
    assert "4 runs, 2 configurations, ranked by validation accuracy of the best epoch; mean ± s.d. over seed" in told
    assert re.search(r"1 +0\.2 +82\.00 ± 1\.41 % .*\n2 +0\.1 +52\.00 ± 1\.41 %", told)
    assert "best     optimizer.lr=0.2" in told
    assert "repeat   gpt-classifier train optimizer.lr=0.2 seed=3\n" in told
    table = pd.read_csv("swept/sweep.csv")
    assert table["val_accuracy"].round(6).tolist() == [0.51, 0.53, 0.81, 0.83]
    assert table["test_accuracy"].isna().tolist() == [True, True, False, False]
    assert table["steps"].tolist() == [16] * 4
    page = Path("swept/sweep.html").read_text()
    assert "82.00 ± 1.41 %" in page
    assert "http" not in page


def test_a_run_that_fails_is_in_the_table_with_its_reason(capsys: pytest.CaptureFixture) -> None:
    done = finishing(lambda cfg: 0.5)

    def task(cfg: DictConfig) -> None:
        if cfg.seed == 1:
            raise UserError("data.path: no <b>file</b>.")
        done(cfg)

    with pytest.raises(SystemExit) as stopped:
        sweep(task, "freeze=none,head_only", "seed=1,2")
    told = capsys.readouterr()
    assert stopped.value.code == 1
    assert "2 of 4 runs finished" in told.out
    assert "failed       freeze=none seed=1: data.path: no <b>file</b>." in told.out
    assert told.err.endswith("2 of the runs failed, as the table says. The first: data.path: no <b>file</b>.\n")
    table = pd.read_csv("swept/sweep.csv")
    assert table["status"].tolist() == ["failed", "finished"] * 2
    assert table["reason"].dropna().tolist() == ["data.path: no <b>file</b>."] * 2
    assert "no &lt;b&gt;file" in Path("swept/sweep.html").read_text()


def test_a_sweep_in_which_nothing_works_says_so(capsys: pytest.CaptureFixture) -> None:
    def task(cfg: DictConfig) -> None:
        raise KeyError("n_layer")

    with pytest.raises(KeyError):  # a fault of the program keeps its traceback
        sweep(task, "seed=1,2")
    assert "0 of 2 runs finished" in capsys.readouterr().out
    assert pd.read_csv("swept/sweep.csv")["reason"].tolist() == ["KeyError: 'n_layer'"] * 2


def test_an_interrupted_sweep_tells_what_it_has_and_is_gone_on_with(capsys: pytest.CaptureFixture) -> None:
    done = finishing(lambda cfg: cfg.seed / 10)

    def interrupted(cfg: DictConfig) -> None:
        if cfg.seed == 2:
            raise KeyboardInterrupt
        done(cfg)

    with pytest.raises(SystemExit, match="Interrupted"):
        sweep(interrupted, "seed=1,2,3")
    told = capsys.readouterr().out
    assert "1 of 2 runs finished" in told
    assert "interrupted  seed=2: it was ended before it was done" in told
    assert "test was not measured. -m with hydra.sweep.dir=swept, the same" in told
    assert "test     " not in told
    assert pd.read_csv("swept/sweep.csv")["status"].tolist() == ["finished", "interrupted"]
    sweep(done, "seed=2,3")
    assert "seed=1 " not in capsys.readouterr().out
    table = pd.read_csv("swept/sweep.csv")
    assert set(table["status"]) == {"finished"}
    assert sorted(table["seed"]) == [1, 2, 3]


def test_runs_of_other_settings_in_the_same_folder_are_no_part_of_a_sweep() -> None:
    sweep(finishing(lambda cfg: 0.9), "seed=1,2", "freeze=none")
    sweep(finishing(lambda cfg: 0.5), "seed=3,4", "freeze=head_only")
    assert pd.read_csv("swept/sweep.csv")["seed"].tolist() == [3, 4]


def test_a_command_to_repeat_is_what_a_shell_takes() -> None:
    overrides = ["data=csv", "data.path='my data.csv'", "seed=1"]
    arguments = ["-m", "--config-dir", "my conf", "data=csv", "data.path='my data.csv'", "seed=1,2"]
    command = shlex.split(repeat(overrides, arguments))
    assert command == ["gpt-classifier", "train", "--config-dir", "my conf", *overrides]


def test_jobs_in_other_processes_are_ranked_and_compute_activations_once() -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    arguments = [
        "-m",
        *SMALL,
        "evaluate=val",
        "trainer.max_epochs=1",
        "hydra.sweep.dir=swept",
        "seed=1",
        "optimizer.lr=1e-3,1e-4",
    ]
    main([*arguments, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"])
    assert pd.read_csv("swept/sweep.csv")["status"].tolist() == ["finished"] * 2
    told = [path.read_text() for path in Path("swept").glob("*/train.log")]
    computed = sorted(int(number) for text in told for number in re.findall(r"(\d+) computed", text))
    assert len(computed) == 2
    assert computed[0] == 0 < computed[1]


@pytest.mark.parametrize(
    ("launcher", "extra"), [("joblib", "joblib"), ("submitit_local", "slurm"), ("submitit_slurm", "slurm")]
)
def test_launchers_are_composed(launcher: str, extra: str) -> None:
    pytest.importorskip({"joblib": "joblib", "slurm": "submitit"}[extra])
    cfg = compose([f"hydra/launcher={launcher}"], hydra_too=True)
    assert launcher.removeprefix("submitit_") in cfg.hydra.launcher["_target_"].lower()


def test_a_launcher_that_is_not_installed_names_its_extra() -> None:
    missing = MissingConfigException("", missing_cfg_file="hydra/launcher/submitit_slurm")
    assert 'pip install ".[slurm]"' in explain(missing)
    missing = MissingConfigException("", missing_cfg_file="hydra/launcher/jobblib")
    assert explain(missing) == "hydra/launcher=jobblib: Hydra has no such file. Did you mean joblib?"
