"""What a run does where its configuration says auto."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from omegaconf import OmegaConf

from gpt_classifier.config import compose, files_in
from gpt_classifier.inference.text_classifier import TextClassifier
from gpt_classifier.training.recipe import epochs_for
from gpt_classifier.training.report import advise

TINY = [
    "model=gpt2-nano",
    "trainer=cpu",
    "model.weights=random",
    "model.backbone.n_layer=1",
    "model.backbone.n_embd=12",
]


def table(folder: Path, counts: dict[str, int]) -> str:
    rows = [f"{label} words of message {i},{label}" for label, number in counts.items() for i in range(number)]
    (folder / "table.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    return f"data.path={folder / 'table.csv'}"


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"a": 30, "b": 30}, {"batch_size": 8, "max_epochs": 10, "monitor": "accuracy", "lr": 3e-3}),
        ({"a": 60, "b": 12}, {"batch_size": 8, "max_epochs": 10, "monitor": "macro_f1", "lr": 3e-3}),
        ({"a": 6, "b": 6}, {"batch_size": 4, "max_epochs": 10, "monitor": "accuracy", "lr": 3e-3}),
    ],
)
def test_own_data_settle_the_recipe_and_the_run_keeps_it(
    train: Callable[..., Run], tmp_path: Path, counts: dict[str, int], expected: dict[str, Any]
) -> None:
    run = train("data=csv", table(tmp_path, counts), "evaluate=val", base=TINY)
    kept: Any = OmegaConf.load(run.folder / "config.yaml")
    assert kept.data.batch_size == expected["batch_size"]
    assert kept.trainer.max_epochs == expected["max_epochs"]
    assert kept.monitor == expected["monitor"]
    assert kept.optimizer.lr == expected["lr"]
    assert run.metrics["settings"]["optimizer.lr"] == expected["lr"]
    rows = run.checkpoint("last")["progress"]["history"]
    assert max(row["epoch"] for row in rows) == expected["max_epochs"]


def test_what_is_given_is_not_settled(train: Callable[..., Run], tmp_path: Path) -> None:
    given = ["optimizer.lr=1e-4", "data.batch_size=5", "trainer.max_epochs=2", "monitor=loss"]
    run = train("data=csv", table(tmp_path, {"a": 30, "b": 30}), "evaluate=val", *given, base=TINY)
    kept: Any = OmegaConf.load(run.folder / "config.yaml")
    assert (kept.optimizer.lr, kept.data.batch_size, kept.trainer.max_epochs) == (1e-4, 5, 2)
    assert kept.monitor == "loss"


def test_the_book_keeps_its_settings() -> None:
    for overrides in (["data=sms_spam"], ["experiment=book/chapter"], ["experiment=book/chapter", "data=sample_sms"]):
        cfg = compose([*overrides, "run_dir=x"])
        assert (cfg.optimizer.lr, cfg.data.batch_size, cfg.trainer.max_epochs) == (5e-5, 8, 5)
        assert cfg.monitor == "accuracy"
        assert not cfg.get("scheduler")


@pytest.mark.parametrize("overrides", [["data=csv"], ["data=hf"], ["data=imdb"], ["data=sms_spam", "recipe=own"]])
def test_of_long_texts_of_your_own_both_ends_are_kept(overrides: list[str]) -> None:
    for given, kept in (([], "head_tail"), (["data.truncate=tail"], "tail")):
        assert compose([*overrides, *given, "run_dir=x"]).data.module.truncate == kept


def test_long_texts_keep_both_ends_from_python() -> None:
    texts, ends = ["so it goes on and on " * 9 + end for end in ("to win", "to lose")], ["win", "lose"]
    classifier = TextClassifier(max_length=8, epochs=1, validation=0, progress=False, overrides=TINY[1:])
    probabilities = classifier.fit(texts * 6, ends * 6).predict_proba(texts)
    assert not np.allclose(*probabilities)  # of their beginnings alone they would be equal


@pytest.mark.parametrize(
    "experiment",
    [name for name in files_in("experiment") if name.startswith(("book/", "imdb/0"))] + ["imdb/setting"],
)
def test_published_figures_are_of_the_beginning_of_long_texts(experiment: str) -> None:
    assert compose([f"experiment={experiment}", "run_dir=x"]).data.module.truncate == "head"
    assert compose(["data=sms_spam", "run_dir=x"]).data.module.truncate == "head"


def test_rate_that_no_recipe_has_is_asked_for(
    train: Callable[..., Run], tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        train("data=csv", table(tmp_path, {"a": 30, "b": 30}), "recipe.rates=null", base=TINY)
    assert "optimizer.lr: expected a number, as recipe.rates has none for model=gpt2-nano" in capfd.readouterr().err


def test_epochs_follow_the_steps_within_their_bounds() -> None:
    recipe = compose(["data=csv", "data.path=x", "run_dir=x"]).recipe
    assert epochs_for(recipe, 1) == recipe.most_epochs
    assert epochs_for(recipe, 100) == recipe.min_steps / 100
    assert epochs_for(recipe, 10_000) == recipe.min_epochs


def curve(*points: tuple[float, float]) -> list[dict[str, float]]:
    return [
        {"epoch": i + 1, "step": 10 * (i + 1), "val/accuracy": accuracy, "val/loss": loss}
        for i, (accuracy, loss) in enumerate(points)
    ]


def best(epoch: int, **recall: float) -> dict[str, Any]:
    recall = recall or {"a": 0.9, "b": 0.8}
    return {"epoch": epoch, "val": {"recall": recall, "support": dict.fromkeys(recall, 10)}}


@pytest.mark.parametrize(
    ("points", "at_best", "told"),
    [
        (curve((0.6, 0.9), (0.7, 0.7), (0.8, 0.5)), best(3), "trainer.max_epochs=6"),
        (curve((0.8, 0.4), (0.8, 0.6), (0.81, 0.9)), best(3), "lowest after epoch 1 and rose from 0.400 to 0.900"),
        (curve((0.9, 0.0), (0.9, 0.1), (0.9, 0.2)), best(1), "rose from 0.000 to 0.200"),
        (curve((0.6, 0.9), (0.8, 0.5), (0.8, 0.5)), best(2, a=1.0, b=0.0), "No message of b was recognised"),
        (curve((0.8, 0.5), (0.81, 0.5), (0.81, 0.5)), best(2), ""),
        (curve((0.8, 0.5), (0.7, 0.5), (0.7, 0.5)), best(0), "No epoch was better than the linear probe"),
        (curve((1.0, 0.0), (1.0, 1e-5), (1.0, 1e-3)), best(2), ""),
        ([], {"epoch": 3}, ""),
    ],
)
def test_curves_say_what_to_try_next(points: list[dict[str, float]], at_best: dict[str, Any], told: str) -> None:
    found = advise(points, at_best, epochs=3, stopped=False)
    assert told in found
    assert bool(found) == bool(told)
    assert advise(points, at_best, epochs=3, stopped=True) == ""
