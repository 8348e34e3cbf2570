"""Sweeps that train: which configuration is best, and what it is worth on test."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import SMALL, Run

from gpt_classifier.atomic import write_json
from gpt_classifier.commands.train import main
from gpt_classifier.sweeps import report
from gpt_classifier.sweeps.measuring import measure_best
from gpt_classifier.sweeps.results import Record, Sweep

VALIDATION = [*(override for override in SMALL if override != "evaluate=all"), "trainer.max_epochs=1"]


def test_the_best_configuration_alone_is_measured_on_test_as_its_runs_would_have(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, train: Callable[..., Run], capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "swept"
    swept = [f"hydra.sweep.dir={folder}", "freeze=head_only,last_block", "seed=1,2"]
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", *VALIDATION, *swept])
    main()
    table = pd.read_csv(folder / "sweep.csv")
    means = table.groupby("freeze")["val_accuracy"].mean()
    best = table[table["freeze"] == means.idxmax()]
    assert table["test_accuracy"].notna().tolist() == (table["freeze"] == means.idxmax()).tolist()
    assert f"best     freeze={means.idxmax()}" in capsys.readouterr().out
    measured = best.iloc[0]
    alone = train(f"freeze={measured['freeze']}", f"seed={measured['seed']}", "evaluate=final", base=VALIDATION)
    test = alone.metrics["best"]["test"]
    assert measured["val_loss"] == pytest.approx(alone.metrics["best"]["val"]["loss"], abs=1e-6)
    for metric in ("accuracy", "macro_f1", "balanced_accuracy", "mcc", "loss"):
        assert measured[f"test_{metric}"] == pytest.approx(test[metric], abs=1e-5)


def found(**validation: float) -> dict[str, Any]:
    measured = {"accuracy": 0.5, "macro_f1": 0.5, "balanced_accuracy": 0.5, "mcc": 0.0, "loss": 1.0} | validation
    return {
        "settings": {"monitor": "accuracy"},
        "best": {"epoch": 1, "step": 8, "val": measured},
        "last": {"step": 8},
        "seconds": {"run": 1.0},
    }


def swept(folder: Path, *runs: tuple[dict[str, str], dict[str, Any]]) -> Sweep:
    for number, (varied, metrics) in enumerate(runs):
        run = folder / str(number)
        Record(number, varied, [f"{key}={value}" for key, value in varied.items()], "finished").write(run)
        write_json(run / "metrics.json", metrics)
    return Sweep.read(folder, folder / "0")


def test_a_higher_mean_wins_over_the_best_single_run_and_equal_ones_are_decided_by_loss(tmp_path: Path) -> None:
    sweep = swept(
        tmp_path,
        ({"freeze": "none", "seed": "1"}, found(accuracy=1.0)),
        ({"freeze": "none", "seed": "2"}, found(accuracy=0.2)),
        ({"freeze": "lora", "seed": "1"}, found(accuracy=0.7, loss=2.0)),
        ({"freeze": "lora", "seed": "2"}, found(accuracy=0.7, loss=2.0)),
        ({"freeze": "head_only", "seed": "1"}, found(accuracy=0.7, loss=1.5)),
    )
    assert [configuration.varied["freeze"] for configuration in sweep.ranking] == ["head_only", "lora", "none"]


def test_folds_are_repetitions_and_data_is_none(tmp_path: Path) -> None:
    sweep = swept(
        tmp_path,
        ({"data.fold": "0", "data.path": "a"}, found(accuracy=0.5)),
        ({"data.fold": "1", "data.path": "a"}, found(accuracy=0.6)),
        ({"data.fold": "0", "data.path": "b"}, found(accuracy=0.7)),
    )
    assert [(c.varied, len(c.runs)) for c in sweep.ranking] == [({"data.path": "b"}, 1), ({"data.path": "a"}, 2)]


def test_the_lowest_loss_wins_where_runs_monitor_it(tmp_path: Path) -> None:
    runs = [({"seed": "1"}, found(loss=0.9)), ({"freeze": "none"}, found(loss=0.2)), ({"freeze": "x"}, found(loss=0.5))]
    for _, metrics in runs:
        metrics["settings"]["monitor"] = "loss"
    assert [c.values("loss") for c in swept(tmp_path, *runs).ranking] == [[0.2], [0.5], [0.9]]


def test_a_run_that_diverged_is_last(tmp_path: Path) -> None:
    diverged = found()
    diverged["best"]["val"] = dict.fromkeys(diverged["best"]["val"], float("nan"))
    sweep = swept(tmp_path, ({"freeze": "none"}, diverged), ({"freeze": "lora"}, found(accuracy=0.1)))
    assert [configuration.varied["freeze"] for configuration in sweep.ranking] == ["lora", "none"]
    report.write(sweep, "")
    assert "10.00 %" in report.table(sweep)


def test_what_can_not_be_compared_is_said(tmp_path: Path) -> None:
    runs = [({"data.path": "a"}, found()), ({"data.path": "b"}, found())]
    runs[1][1]["settings"]["monitor"] = "mcc"
    sweep = swept(tmp_path, *runs)
    for run, kept in zip(sweep.runs, ("one", "other"), strict=True):
        (run.folder / "splits").mkdir()
        (run.folder / "splits" / "val.csv").write_text(f"row,label,hash\n0,ham,{kept}\n")
    told = " ".join(sweep.notes())
    assert "Runs monitored different metrics: they are ranked by accuracy." in told
    assert "Configurations were validated on different messages" in told
    (tmp_path / "1" / "splits" / "val.csv").write_text("row,label,hash\n0,ham,one\n")
    assert "different messages" not in " ".join(sweep.notes())


def test_test_figures_that_runs_measured_themselves_are_taken(tmp_path: Path) -> None:
    runs = [({"seed": "1"}, found()), ({"seed": "2"}, found())]
    for place, (_, metrics) in enumerate(runs):
        metrics["best"]["test"] = {**metrics["best"]["val"], "accuracy": 0.6 + place / 10, "messages": 9}
    sweep = swept(tmp_path, *runs)
    measure_best(sweep)
    assert report.tested(sweep).startswith("accuracy 65.00 ± 7.07 %, macro F1 50.00 ± 0.00 % (9 messages, 2 runs;")


@pytest.mark.parametrize(
    ("weights", "told"), [(False, "the runs kept no weights"), (True, "there are no test messages")]
)
def test_why_test_was_not_measured_is_said(tmp_path: Path, weights: bool, told: str) -> None:
    sweep = swept(tmp_path, ({"seed": "1"}, found()))
    if weights:
        (tmp_path / "0" / "checkpoints").mkdir()
        (tmp_path / "0" / "checkpoints" / "best.ckpt").touch()
    measure_best(sweep)
    assert f"Test was not measured: {told}." in report.outcome(sweep, "", "here")


def test_the_page_shows_each_configuration_and_sorts_by_numbers(tmp_path: Path) -> None:
    sweep = swept(
        tmp_path,
        *(({"optimizer.lr": rate}, found(accuracy=float(rate))) for rate in ("0.5", "0.25")),
        ({"optimizer.lr": "</script>"}, found(accuracy=0.1)),
    )
    page = report.page(sweep, "python train.py optimizer.lr=0.5")
    assert page.count('class="mean"') == 3
    assert 'style="left: 100.0%"' in page
    assert 'data-order="0.25"' in page
    assert page.count("</script>") == 1  # its own
    assert "&lt;/script&gt;" in page


def test_long_tables_and_values_are_shortened_on_the_terminal_alone(tmp_path: Path) -> None:
    runs = [({"data.path": f"{'x' * 90}/{number}.csv"}, found()) for number in range(30)]
    sweep = swept(tmp_path, *runs)
    lines = report.table(sweep).splitlines()
    assert "… and 10 more in sweep.csv" in lines
    assert max(map(len, lines)) < 130
    assert any("/0.csv" in line for line in lines)
    assert len(sweep.table()) == 30
    assert json.loads((tmp_path / "0" / "sweep_run.json").read_text())["varied"]["data.path"] == f"{'x' * 90}/0.csv"
