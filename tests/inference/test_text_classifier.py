"""A checkpoint in, labels with probabilities out."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Run, save_as_released

from gpt_classifier import TextClassifier
from gpt_classifier.checkpoints import find_checkpoint
from gpt_classifier.errors import UserError
from gpt_classifier.models.gpt import GPT, GPTConfig

TEXTS = ["ok", "You have WON a prize, call 555-0100 now!", "see you at the station at five then", "<|endoftext|>"]


def test_probabilities_do_not_depend_on_the_rest_of_the_batch(short_run: Run) -> None:
    classifier = TextClassifier.from_checkpoint(short_run.folder / "checkpoints" / "best.ckpt", precision="32-true")
    together = classifier.predict_proba(TEXTS)
    alone = np.concatenate([classifier.predict_proba([text]) for text in TEXTS])
    among_many = classifier.predict_proba([*short_run.texts("train"), *reversed(TEXTS)])[-len(TEXTS) :][::-1]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together, among_many, atol=1e-5)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-6)
    assert classifier.predict(TEXTS).tolist() == classifier.classes_[together.argmax(axis=1)].tolist()
    assert classifier.predict_proba([]).shape == (0, 2)


def test_it_takes_part_in_scikit_learns_procedures(short_run: Run) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    from sklearn.frozen import FrozenEstimator
    from sklearn.model_selection import cross_val_predict

    classifier = TextClassifier.from_checkpoint(short_run.folder / "checkpoints" / "best.ckpt", precision="32-true")
    texts, labels = short_run.texts("test"), short_run.labels("test")
    expected = short_run.metrics["best"]["test"]
    assert classifier.score(texts, labels) == pytest.approx(expected["accuracy"])
    assert metrics.accuracy_score(labels, classifier.predict(texts)) == pytest.approx(expected["accuracy"])
    spam = classifier.classes_.tolist().index("spam")
    auroc = metrics.roc_auc_score(np.array(labels) == "spam", classifier.predict_proba(texts)[:, spam])
    assert auroc == pytest.approx(expected["auroc"], abs=1e-4)
    scorer = metrics.get_scorer("neg_log_loss")
    assert -scorer(classifier, texts, labels) == pytest.approx(expected["loss"], abs=1e-3)
    folds = cross_val_predict(FrozenEstimator(classifier), texts, labels, method="predict_proba", cv=3)
    np.testing.assert_allclose(folds, classifier.predict_proba(texts), atol=1e-5)
    with pytest.raises(UserError, match="a label for each of 2 texts"):
        classifier.score(["a", "b"], ["ham"])
    with pytest.raises(
        UserError, match="texts: expected a list, a numpy array of one dimension or a pandas Series, but it is a str"
    ):
        classifier.predict("hello")


def test_classes_are_in_scikit_learns_order(train: Callable[..., Run], tmp_path: Path) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rows = [(f"{word} {i} thing", stars) for i in range(20) for word, stars in (("bad", 1), ("so so", 3), ("good", 10))]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(tmp_path / "reviews.csv", index=False)
    run = train("data=csv", f"data.path={tmp_path / 'reviews.csv'}", "data.train_size=null", "trainer.max_epochs=1")
    classifier = TextClassifier.from_checkpoint(run.folder / "checkpoints" / "best.ckpt", precision="32-true")
    assert classifier.classes_.tolist() == [1, 3, 10]
    texts, labels = run.texts("test"), run.labels("test")
    labels = [int(label) for label in labels]
    loss = -metrics.get_scorer("neg_log_loss")(classifier, texts, labels)
    assert loss == pytest.approx(run.metrics["best"]["test"]["loss"], abs=1e-4)
    assert classifier.score(texts, labels) == pytest.approx(run.metrics["best"]["test"]["accuracy"])


def test_what_is_no_text_or_no_device_is_told(short_run: Run) -> None:
    path = short_run.folder / "checkpoints" / "best.ckpt"
    with pytest.raises(UserError, match="text 2 of 2 is float, not text"):
        TextClassifier.from_checkpoint(path).predict(["a", float("nan")])  # type: ignore[list-item]
    with pytest.raises(UserError, match="device: abacus can't be used here"):
        TextClassifier.from_checkpoint(path, device="abacus")
    with pytest.raises(UserError, match="precision: expected auto"):
        TextClassifier.from_checkpoint(path, precision="8")


def test_weights_that_are_no_numbers_are_refused(short_run: Run, tmp_path: Path) -> None:
    checkpoint = short_run.checkpoint()
    checkpoint["state_dict"]["model.head.weight"][0] = float("nan")
    torch.save(checkpoint, tmp_path / "diverged.ckpt")
    with pytest.raises(UserError, match="the training diverged"):
        TextClassifier.from_checkpoint(tmp_path / "diverged.ckpt")


def test_temperature_changes_probabilities_but_no_label(short_run: Run) -> None:
    classifier = TextClassifier.from_checkpoint(short_run.folder / "checkpoints" / "best.ckpt", precision="32-true")
    before, labels = classifier.predict_proba(TEXTS), classifier.predict(TEXTS)
    classifier.temperature = 2.0
    after = classifier.predict_proba(TEXTS)
    assert (after.max(axis=1) < before.max(axis=1)).all()
    assert classifier.predict(TEXTS).tolist() == labels.tolist()


HOSTILE = ["x" * 1_000_000, "spam " * 200_000, " " * 100_000 + "end", "😀" * 5000, "\0" * 100, "\ud800\ud800", "\u202e‮"]


def test_hostile_texts_are_classified_in_finite_time(short_run: Run) -> None:
    classifier = TextClassifier.from_checkpoint(short_run.folder / "checkpoints" / "best.ckpt")
    probabilities = classifier.predict_proba(HOSTILE)
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


class Bomb:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("exploded",)


def test_checkpoint_that_is_cut_off_of_another_base_or_executes_code_is_refused(
    train: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = GPTConfig(vocab_size=8192, n_positions=1024, n_embd=48, n_layer=2, n_head=6)
    weights, others = (save_as_released(GPT(config).initialise(), tmp_path / name) for name in ("a", "b"))
    run = train(f"model.weights={weights}", "trainer.max_epochs=1")
    whole = run.folder / "checkpoints" / "best.ckpt"
    with pytest.raises(UserError, match="builds on pretrained weights with the content hash"):
        TextClassifier.from_checkpoint(whole, weights=others)
    content = whole.read_bytes()
    for part in (0.1, 0.5, 0.99):
        (tmp_path / "cut.ckpt").write_bytes(content[: int(len(content) * part)])
        with pytest.raises(UserError, match="is not a whole checkpoint"):
            TextClassifier.from_checkpoint(tmp_path / "cut.ckpt")
    for legacy in (False, True):
        bomb = {"classifier": {"format": 3, "x": Bomb()}, "state_dict": {}}
        torch.save(bomb, tmp_path / "bomb.ckpt", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(UserError, match="is not a whole checkpoint") as refused:
            TextClassifier.from_checkpoint(tmp_path / "bomb.ckpt")
        assert "weights_only" not in str(refused.value)
        assert legacy or "which are never loaded" in str(refused.value)
    (tmp_path / "bare.ckpt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match="is not a whole checkpoint"):
        TextClassifier.from_checkpoint(tmp_path / "bare.ckpt")
    assert not (tmp_path / "exploded").exists()


def test_bfloat16_changes_probabilities_a_little(short_run: Run) -> None:
    path = short_run.folder / "checkpoints" / "best.ckpt"
    exact, fast = (
        TextClassifier.from_checkpoint(path, precision=name).predict_proba(TEXTS) for name in ("32-true", "bf16-mixed")
    )
    assert 0 < np.abs(exact - fast).max() < 0.02


def test_last_checkpoint_predicts_too(short_run: Run) -> None:
    TextClassifier.from_checkpoint(short_run.folder / "checkpoints" / "last.ckpt").predict(TEXTS)


def test_padded_pooling_reads_a_text_alone_as_in_a_batch(train: Callable[..., Run]) -> None:
    run = train("pooling=padded_mean", "trainer.max_epochs=1")
    classifier = TextClassifier.from_checkpoint(run.folder / "checkpoints" / "best.ckpt", precision="32-true")
    alone = np.concatenate([classifier.predict_proba([text]) for text in TEXTS])
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), alone, atol=1e-6)


def test_texts_longer_than_the_context_are_cut(short_run: Run) -> None:
    classifier = TextClassifier.from_checkpoint(short_run.folder / "checkpoints" / "best.ckpt")
    long = classifier.predict_proba(["1\n" * 1500, "1\n" * 512])  # two tokens each
    np.testing.assert_allclose(long[0], long[1], atol=1e-6)


def test_empty_text_is_refused(short_run: Run) -> None:
    classifier = TextClassifier.from_checkpoint(short_run.folder / "checkpoints" / "best.ckpt")
    with pytest.raises(UserError, match="text 2 of 2 is empty"):
        classifier.predict(["hello", " \n"])


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        TextClassifier.from_checkpoint(tmp_path / "nothing.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    for name in ("other.ckpt", "text.ckpt"):
        with pytest.raises(UserError, match="is not a whole checkpoint of this project"):
            TextClassifier.from_checkpoint(tmp_path / name)


def test_latest_is_the_run_that_finished_last(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Train one first"):
        find_checkpoint("latest", tmp_path)
    for i, name in enumerate(("b", "c", "a")):
        path = tmp_path / "runs" / name / "checkpoints" / "best.ckpt"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (i, i))
    with pytest.raises(UserError, match=r"no run below .* has finished"):
        find_checkpoint("latest", tmp_path)
    for name in ("b", "c"):
        (tmp_path / "runs" / name / "metrics.json").touch()
    assert find_checkpoint("latest", tmp_path).parts[-3] == "c"  # a is not finished
    assert find_checkpoint(str(tmp_path / "runs" / "a"), tmp_path) == path
