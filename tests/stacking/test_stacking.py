"""A fine-tuned model and a linear model of n-grams as one classifier, from the command line and from Python."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Run

from gpt_classifier import TextClassifier, crossfit
from gpt_classifier.artifact import open_artifact
from gpt_classifier.commands import main
from gpt_classifier.data.prepare import fold
from gpt_classifier.errors import UserError
from gpt_classifier.inference.inside import trace
from gpt_classifier.inference.predictor import Predictor
from gpt_classifier.serving.served import Served
from gpt_classifier.serving.settings import Settings
from gpt_classifier.stacking import run

SMALL = ["model.backbone.n_layer=2", "model.backbone.n_embd=24", "model.backbone.n_head=2"]
WORDS = {"ham": ("lunch", "dinner", "bus"), "spam": ("prize", "cash", "winner")}
TEXTS = [f"{WORDS[label][i % 3]} {'abcdefghij'[i % 10]} {'klmnopq'[i % 7]}" for i in range(30) for label in WORDS]
LABELS = list(WORDS) * 30
ASKED = ["a prize for you", "bus at five", "Dinner!\nNow", "…"]


def tiny(**params: Any) -> TextClassifier:
    given = {"weights": "random", "precision": "32-true", "device": "cpu", "epochs": 1, "batch_size": 8}
    return TextClassifier(**{**given, "overrides": SMALL, "progress": False, "with_ngrams": True, **params})


@pytest.fixture(scope="module")
def fitted() -> TextClassifier:
    return tiny().fit(TEXTS, LABELS)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """What the model of each fold was trained on, and what it was asked."""
    found: list[tuple[pd.DataFrame, pd.DataFrame]] = []
    train = run.train

    def spy(*arguments: Any) -> Any:
        result = train(*arguments)
        found.append((result.data.split_frame("train"), result.data.split_frame("test")))
        return result

    monkeypatch.setattr(run, "train", spy)
    return found


def test_logits_are_the_weighted_sum_of_both(fitted: TextClassifier) -> None:
    predictor = fitted._fitted()
    assert predictor.ngrams is not None
    model, linear = predictor.ngrams.scales
    assert model >= 0 < linear
    alone = predictor.model_logits(predictor.token_rows(ASKED))
    expected = model * alone + linear * predictor.ngrams.margins(ASKED)
    np.testing.assert_allclose(fitted.logits(ASKED), expected, atol=1e-5)
    assert fitted.predict(["prize cash winner", "lunch dinner"]).tolist() == ["spam", "ham"]


def test_what_is_saved_says_the_same(fitted: TextClassifier, tmp_path: Path) -> None:
    fitted.save(tmp_path / "saved")
    opened = TextClassifier.load(tmp_path / "saved", device="cpu", precision="32-true")
    np.testing.assert_allclose(opened.predict_proba(ASKED), fitted.predict_proba(ASKED), atol=1e-6)
    assert opened.with_ngrams
    opened.save(tmp_path / "again")
    again = TextClassifier.load(tmp_path / "again", device="cpu", precision="32-true")
    np.testing.assert_allclose(again.predict_proba(ASKED), fitted.predict_proba(ASKED), atol=1e-6)


def test_a_service_and_the_last_token_of_a_trace_say_the_same(fitted: TextClassifier, tmp_path: Path) -> None:
    fitted.save(tmp_path / "saved")
    served = Served.open(tmp_path / "saved", Settings("saved", tmp_path / "saved", precision="32-true"))
    answers = served.answer([ASKED[:1], ["  "], ASKED[1:]], max_tokens=1000)
    assert isinstance(answers[1], Exception)
    found = np.concatenate([answer.probabilities for answer in answers if not isinstance(answer, Exception)])
    np.testing.assert_allclose(found, fitted.predict_proba(ASKED), atol=1e-5)
    predictor = served.predictor
    found = np.stack([trace(predictor, text).probabilities[-1] for text in ASKED])
    np.testing.assert_allclose(found, fitted.predict_proba(ASKED), atol=1e-5)


@pytest.mark.parametrize("target", ["hf", "onnx", "html"])
def test_forms_that_hold_a_transformer_alone_refuse_it(fitted: TextClassifier, tmp_path: Path, target: str) -> None:
    from gpt_classifier.commands.export import write

    with pytest.raises(UserError, match=rf"^{target}: .*with_ngrams=true.*--to bundle"):
        write(fitted, target, tmp_path / "out", {})
    assert not (tmp_path / "out").exists()


def test_no_model_is_asked_what_it_was_trained_on_or_something_like_it(
    parts: list[tuple[pd.DataFrame, pd.DataFrame]],
) -> None:
    texts = [*TEXTS, *(text.upper() + "!" for text in TEXTS[:20])]
    tiny(validation=0.2).fit(texts, [*LABELS, *LABELS[:20]])
    assert len(parts) == 5
    for train, asked in parts:
        assert not set(train["text"].map(fold)) & set(asked["text"].map(fold))
    every = [text for _, asked in parts for text in asked["text"]]
    assert len(every) == len(parts[0][0]) + len(parts[0][1])  # each training text once, and none of validation


def test_a_class_with_one_text_is_learned_but_not_asked_out_of_fold(
    parts: list[tuple[pd.DataFrame, pd.DataFrame]],
) -> None:
    classifier = tiny(validation=0).fit([*TEXTS, "zebra zebra"], [*LABELS, "rare"])
    assert all("rare" not in set(asked["label"]) for _, asked in parts)
    assert classifier.classes_.tolist() == ["ham", "rare", "spam"]
    assert np.isfinite(classifier.predict_proba(["zebra"])).all()


def test_where_no_class_has_two_texts_validation_says_how_much_each_counts(
    parts: list[tuple[pd.DataFrame, pd.DataFrame]],
) -> None:
    texts, labels = [f"{name} {other}" for name in "abcdefghijkl" for other in "xy"], [*"aabbccddeeffgghhiijjkkll"]
    classifier = tiny(validation=0.5).fit(texts, labels)
    assert parts == []
    assert classifier._fitted().ngrams is not None
    with pytest.raises(UserError, match="with_ngrams: expected at least 20 training messages"):
        tiny(validation=0).fit(texts[::2], labels[::2])


def test_crossfitting_asks_both(monkeypatch: pytest.MonkeyPatch) -> None:
    found = crossfit(TEXTS, LABELS, folds=2, classifier=tiny())
    alone = crossfit(TEXTS, LABELS, folds=2, classifier=tiny(with_ngrams=False))
    assert found.model.predictions.losses().mean() < alone.model.predictions.losses().mean()


def test_a_run_keeps_both_in_one_checkpoint_and_measures_both(
    train: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    found = train("with_ngrams=true", "evaluate=final", "trainer.max_epochs=1")
    best = found.folder / "checkpoints" / "best.ckpt"
    classifier = TextClassifier.load(best, device="cpu", precision="32-true")
    facts = found.metrics["stacking"]
    for split in ("val", "test"):
        accuracy = classifier.score(found.texts(split), found.labels(split))
        assert found.metrics["best"][split]["accuracy"] == pytest.approx(accuracy)
        assert facts[split]["joined"]["accuracy"] == pytest.approx(accuracy)
        predictor = classifier._fitted()
        alone = predictor.model_logits(predictor.token_rows(found.texts(split))).argmax(axis=1)
        right = np.array(predictor.classes)[alone] == np.array(found.labels(split))
        assert facts[split]["model"]["accuracy"] == pytest.approx(right.mean())
    told = f"validation accuracy (macro F1) {facts['val']['model']['accuracy']:.2%}"
    assert told in capsys.readouterr().out
    assert "ngrams.weight" in found.checkpoint()["ngrams"]  # which reads no more than tensors and plain values
    main(["evaluate", "--checkpoint", str(best)])
    page = (found.folder / "evaluation" / "report.html").read_text()
    assert told in page
    numbers = json.loads((found.folder / "evaluation" / "evaluation.json").read_text())
    assert numbers["estimates"]["accuracy"]["value"] == pytest.approx(found.metrics["best"]["test"]["accuracy"])


def test_a_run_that_is_resumed_joins_what_the_first_one_kept(train: Callable[..., Run]) -> None:
    options = ("with_ngrams=true", "evaluate=final", "optimizer.lr=0.3")  # of which no epoch gets better
    first = train(*options, folder="first")
    assert first.metrics["best"]["epoch"] < 2
    again = train(*options, f"ckpt_path={first.folder}/checkpoints/last.ckpt", folder="again")
    assert again.metrics["best"] == first.metrics["best"]
    assert again.metrics["stacking"]["val"] == first.metrics["stacking"]["val"]


def test_interrupted_in_a_fold_the_model_alone_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "train", interrupted)
    classifier = tiny()
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(TEXTS, LABELS)
    assert classifier._fitted().ngrams is None
    assert len(classifier.predict(ASKED)) == len(ASKED)


def test_a_damaged_table_of_ngrams_is_told(fitted: TextClassifier, tmp_path: Path) -> None:
    fitted.save(tmp_path / "saved")
    artifact = open_artifact(tmp_path / "saved")
    shorter = replace(artifact, tensors=artifact.tensors | {"ngrams.idf": torch.ones(3)})
    with pytest.raises(UserError, match="is not a whole checkpoint"):
        Predictor.of(shorter, "cpu")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["procedure=baseline"], "with_ngrams: only procedure=usual"),
        (["trainer.devices=2"], "trainer.devices: expected 1"),
        (["stacking.folds=1"], "stacking.folds: expected"),
    ],
)
def test_what_can_not_be_joined_is_refused(
    train: Callable[..., Run], capsys: pytest.CaptureFixture[str], overrides: list[str], message: str
) -> None:
    with pytest.raises(SystemExit):
        train("with_ngrams=true", *overrides)
    assert message in capsys.readouterr().err
