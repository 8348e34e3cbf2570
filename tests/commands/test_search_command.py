"""gpt-classifier search: what it trains, what it leaves, and how it says no. Most tests here train nothing."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from conftest import SMALL

from gpt_classifier.commands import main as command
from gpt_classifier.commands import search
from gpt_classifier.commands.search import main

pytest.importorskip("optuna")

FIXED = [
    *(override for override in SMALL if not override.startswith(("evaluate", "optimizer.lr", "trainer.max_epochs"))),
    *("trainer.max_epochs=1", "freeze=last_block", "data.batch_size=8", "bag_of_tokens=false"),
]
SPACE = ["hparams_search.space.pooling=[mean,max]", "hparams_search.space.optimizer.lr=[0.001,0.01]"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gpt-classifier", "search"])


def test_a_search_ends_with_the_best_on_test_and_the_command_that_repeats_it(capsys: pytest.CaptureFixture) -> None:
    command(["search", *FIXED, "hydra.run.dir=found", "hparams_search.trials=3", *SPACE])
    told = capsys.readouterr().out
    assert "trial 2 (3 of 3): " in told
    assert "3 trials" in told
    assert "repeat   gpt-classifier train experiment=quickstart " in told
    table = pd.read_csv("found/sweep.csv")
    assert table["status"].isin(["finished", "pruned"]).all()
    assert table["test_accuracy"].notna().sum() == 1
    assert table["pooling"][0] == "last_token"  # the default, which the space does not have
    assert Path("found/sweep.html").is_file()
    assert "epoch 1/1" in Path("found/trials/0/train.log").read_text()


def test_a_search_that_is_broken_off_says_how_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def interrupted(arguments: Sequence[str], overrides: Sequence[str], context: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(search, "_train", interrupted)
    with pytest.raises(SystemExit, match="Interrupted"):
        main(["experiment=quickstart", "hydra.run.dir=found"])
    told = " ".join(capsys.readouterr().out.split())
    assert "The search was broken off, and test was not measured." in told
    assert "The same command goes on with it where it has hydra.run.dir=found" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-m", "seed=1,2"], "-m: a search runs many trials by itself"),
        (["hparams_search.trials=0"], "hparams_search.trials: expected a whole number of at least 1, but it is 0"),
        (["hparams_search.trials=many"], "hparams_search.trials: expected a whole number"),
        (["hparams_search=optuan"], "Did you mean optuna?"),
        (["hparams_search.space.optimizer.rl=[1]"], "no option optimizer.rl in these settings"),
        (["hparams_search.space.pooling=[]"], "hparams_search.space.pooling: expected a list of values"),
        (["hparams_search.space.optimizer.lr.low=1"], "optimizer.lr.low: expected less than"),
        (["hparams_search.sampler.no_such=1"], "no such option"),
        (["procedure=baseline"], "procedure: expected usual"),
        (["hparams_search.space.pooling.size=[8,16]"], "no option pooling.size in these settings"),
        (["evaluate=final"], "evaluate=final: a search measures validation, and test once at its end"),
        (["data=csv", "data.path=nowhere.csv"], "nowhere.csv"),
        (["data.val_fraction=2"], "data.val_fraction: expected"),
    ],
)
def test_what_can_not_be_searched_is_told_before_anything_is_trained(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["experiment=quickstart", "hydra.run.dir=found", *arguments])
    text = str(stopped.value.code) + capsys.readouterr().err
    assert told in text
    assert "Traceback" not in text
    assert not Path("found/trials").exists()


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "gpt_classifier.sweeps.search", raising=False)
    with pytest.raises(SystemExit):
        main(["experiment=quickstart", "hydra.run.dir=found"])
    assert 'search needs Optuna, the extra search: pip install ".[search]"' in capsys.readouterr().err


def test_an_option_that_is_set_is_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Sequence[str]] = []

    def kept(arguments: Sequence[str], overrides: Sequence[str], context: object) -> None:
        found.append(overrides)
        raise KeyError

    monkeypatch.setattr(search, "_train", kept)
    with pytest.raises(KeyError):
        main(
            [
                *("experiment=quickstart", "hydra.run.dir=found", "freeze=lora"),
                *("hparams_search.space.data.batch_size=null", "hparams_search.space.freeze.rank=[2,4]"),
                "hparams_search.space.freeze.alpha={low:4,high:8}",
            ]
        )
    keys = [override.partition("=")[0] for override in found[1]]
    assert keys.count("freeze") == keys.count("freeze.rank") == keys.count("freeze.alpha") == 1
    assert "pooling" in keys
    assert "freeze=lora" in found[1]
    assert "data.batch_size" not in keys
    assert "optimizer.lr" in keys
