"""Runs of scikit-learn in a transformer's place."""

import json
from pathlib import Path

import pandas as pd
import pytest
from conftest import Run

from gpt_classifier.commands.train import main
from gpt_classifier.config import compose
from gpt_classifier.training.build import load_data

BASELINE = ["data=sample_sms", "procedure=baseline", "procedure.family=words"]


@pytest.mark.parametrize(
    ("evaluate", "splits"), [("all", {"train", "val", "test"}), ("final", {"val", "test"}), ("val", {"val"})]
)
def test_it_leaves_what_it_measured_and_what_validation_chose(tmp_path: Path, evaluate: str, splits: set[str]) -> None:
    main([*BASELINE, f"evaluate={evaluate}", f"hydra.run.dir={tmp_path}"])
    metrics = Run(tmp_path).metrics
    assert metrics["last"].keys() - {"epoch", "step"} == splits
    assert metrics["last"]["val"]["accuracy"] > 0.8
    assert metrics["note"].startswith("word n-grams, TF-IDF, LinearSVC: 1-")
    assert (metrics["settings"]["procedure.family"], metrics["settings"]["monitor"]) == ("words", "accuracy")
    assert metrics["seconds"]["run"] >= metrics["seconds"]["training"] > 0


def test_a_sweep_measures_the_best_of_them_on_test(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    sweep = ["-m", *BASELINE[:2], f"hydra.sweep.dir={tmp_path / 'swept'}", "procedure.family=majority,words,hashed"]
    main(sweep)
    told = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "swept" / "sweep.csv", index_col="procedure.family")
    tested = table["test_accuracy"].dropna()
    assert f"best     procedure.family={tested.index[0]}" in told
    main([*BASELINE[:2], f"procedure.family={tested.index[0]}", f"hydra.run.dir={tmp_path / 'alone'}"])
    alone = Run(tmp_path / "alone").metrics["best"]["test"]
    assert tested.tolist() == [pytest.approx(alone["accuracy"])]
    assert table["test_macro_f1"].dropna().tolist() == [pytest.approx(alone["macro_f1"])]
    assert f"({alone['messages']} messages, 1 run; the best configuration only)" in told
    assert alone["messages"] == sum(Run(tmp_path / "alone").metrics["data"]["splits"]["test"].values())
    assert all("test" not in Run(path.parent).metrics["best"] for path in (tmp_path / "swept").rglob("metrics.json"))
    main([*sweep, "evaluate=final", f"hydra.sweep.dir={tmp_path / 'tested'}"])
    assert "the best configuration only" in capsys.readouterr().out


def test_weights_of_messages_have_no_effect_and_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for balance, warned in (("none", False), ("weights", True)):
        options = [f"data.balance={balance}", "data.train_size=60", f"hydra.run.dir={tmp_path / balance}"]
        main([*BASELINE, *options])
        assert ("weighs all training messages alike" in capsys.readouterr().out) is warned


def test_it_has_the_splits_of_a_transformer_and_needs_no_vocabulary(tmp_path: Path) -> None:
    missing = f"model.tokenizer={tmp_path}/none.tiktoken"
    main([*BASELINE, "model=gpt2-small", missing, "data.max_length=40", f"hydra.run.dir={tmp_path / 'run'}"])
    splits = json.loads((tmp_path / "run" / "metrics.json").read_text())["data"]["splits"]
    assert splits == load_data(compose(["data=sample_sms", "model=gpt2-nano"])).report.splits


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("procedure.family=forest", "procedure.family: expected linear, majority,"),
        ("data.val_fraction=0", "procedure=baseline chooses on validation messages. Set data.val_fraction above 0."),
    ],
)
def test_what_it_can_not_do_is_told(tmp_path: Path, capsys: pytest.CaptureFixture, override: str, told: str) -> None:
    with pytest.raises(SystemExit):
        main([*BASELINE, override, f"hydra.run.dir={tmp_path}"])
    assert told in capsys.readouterr().err
    assert not (tmp_path / "metrics.json").exists()
