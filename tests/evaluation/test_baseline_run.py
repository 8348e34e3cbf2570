"""Runs of scikit-learn in a transformer's place."""

import json
from pathlib import Path

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
