"""Long texts by the real command: in windows, cut, or refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Run

from gpt_classifier.inference.text_classifier import TextClassifier
from gpt_classifier.models.pooling import Windowed

WINDOWS = ["pooling=windows", "pooling.size=12", "pooling.overlap=3"]
PROBED = ["recipe=own", "head_init=linear_probe", "bag_of_tokens=true", "data.batch_size=8"]


@pytest.mark.parametrize(
    ("inner", "freeze"), [("max", "last_block"), ("last_token", "last_block"), ("mean", "head_only")]
)
def test_windows_are_the_same_with_the_cache_and_without(
    train: Callable[..., Run], capsys: pytest.CaptureFixture, inner: str, freeze: str
) -> None:
    options = [*PROBED, *WINDOWS, f"pooling.inner={inner}", f"freeze={freeze}", "optimizer.lr=1e-3"]
    cached = train(*options, folder="cached")
    assert "read in more than one: " in capsys.readouterr().out
    computed = train(*options, "cache.enabled=false", folder="computed")
    for stage in ("last", "best"):
        for split in ("train", "val", "test"):
            found, expected = (run.metrics[stage][split]["loss"] for run in (cached, computed))
            assert found == pytest.approx(expected, abs=1e-4)
    classifier = TextClassifier.load(cached.folder / "checkpoints" / "best.ckpt", precision="32-true")
    accuracy = np.mean(np.array(classifier.predict(cached.texts("test"))) == cached.labels("test"))
    assert accuracy == pytest.approx(cached.metrics["best"]["test"]["accuracy"])


def test_activations_of_other_windows_are_not_taken_for_these(train: Callable[..., Run]) -> None:
    for size in (12, 8):
        run = train(*WINDOWS, f"pooling.size={size}", folder=str(size))
    alone = train(*WINDOWS, "pooling.size=8", "cache.enabled=false", folder="alone")
    assert run.metrics["last"]["test"]["loss"] == pytest.approx(alone.metrics["last"]["test"]["loss"], abs=1e-4)


def test_a_run_goes_on_with_its_own_windows_alone(train: Callable[..., Run], capfd: pytest.CaptureFixture) -> None:
    last = train(*WINDOWS, "scheduler=none", "trainer.max_epochs=1").folder / "checkpoints" / "last.ckpt"
    with pytest.raises(SystemExit):
        train(*WINDOWS, "pooling.size=8", "scheduler=none", f"ckpt_path={last}", folder="other")
    said = capfd.readouterr().err
    assert "with pooling windows inner=max size=12 overlap=3, but this run has windows inner=max size=8" in said
    resumed = train(*WINDOWS, "scheduler=none", f"ckpt_path={last}", folder="resumed")
    whole = train(*WINDOWS, "scheduler=none", folder="whole")
    assert resumed.metrics["last"]["test"]["loss"] == pytest.approx(whole.metrics["last"]["test"]["loss"], abs=1e-5)


def test_windows_from_python(tmp_path: Path) -> None:
    texts = [f"{start} {'so it goes on and on ' * 9} {i}" for i in range(12) for start in ("win a prize", "see you at")]
    labels = ["spam", "ham"] * 12
    options = {"epochs": 1, "progress": False, "overrides": ["data.max_length=40"]}
    named = {**options, "overrides": [*options["overrides"], "pooling.size=16", "pooling.overlap=4"]}
    by_name = TextClassifier(pooling="windows", **named).fit(texts, labels)
    made = TextClassifier(pooling=lambda width: Windowed("max", 16, 4), **options).fit(texts, labels)
    np.testing.assert_allclose(by_name.predict_proba(texts), made.predict_proba(texts), atol=1e-6)
    by_name.save(tmp_path / "saved")
    again = TextClassifier.load(tmp_path / "saved")
    np.testing.assert_allclose(again.predict_proba(texts), by_name.predict_proba(texts), atol=1e-5)
    rounded, exact = (TextClassifier.load(tmp_path / "saved", precision=p) for p in ("bf16-mixed", "32-true"))
    np.testing.assert_allclose(rounded.predict_proba(texts), exact.predict_proba(texts), atol=0.01)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["pooling.overlap=12"], "pooling.overlap: expected 0 to 11 tokens"),
        (["pooling.size=2000"], "pooling.size: expected a whole number from 1 to 1024"),
        (["pooling.inner=padded_mean"], "pooling.inner: expected last_token, first_token, mean or max"),
        (["data.pad_to=context"], "data.pad_to: expected batch"),
        (
            ["pooling=max", "data.max_length=5", "data.truncate=error"],
            "data.truncate: expected head, tail or head_tail",
        ),
    ],
)
def test_what_does_not_fit_is_told_in_a_paragraph_and_nothing_is_trained(
    train: Callable[..., Run], capfd: pytest.CaptureFixture, tmp_path: Path, overrides: list[str], expected: str
) -> None:
    with pytest.raises(SystemExit) as status:
        train(*(WINDOWS if overrides[0] != "pooling=max" else []), *overrides)
    assert status.value.code == 1
    said = capfd.readouterr().err
    assert expected in said
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_classifier_that_was_trained_to_refuse_long_texts_refuses_them(train: Callable[..., Run]) -> None:
    run = train("data.truncate=error", "data.max_length=200", "trainer.max_epochs=1")
    classifier = TextClassifier.load(run.folder / "checkpoints" / "best.ckpt")
    assert len(classifier.predict(["fine"])) == 1
    with pytest.raises(Exception, match=r"begins 'so it goes on so .*' has [\d,]+ tokens, but .* 200 at most"):
        classifier.predict(["fine", "so it goes on " * 200])
