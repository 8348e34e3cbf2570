"""A checkpoint in, labels with probabilities out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Run

from gpt_classifier.errors import UserError
from gpt_classifier.inference.predictor import Predictor, latest_checkpoint

TEXTS = ["ok", "You have WON a prize, call 555-0100 now!", "see you at the station at five then", "<|endoftext|>"]


@pytest.fixture
def run(train: Callable[..., Run]) -> Run:
    return train("trainer.max_epochs=1")


def test_probabilities_do_not_depend_on_the_rest_of_the_batch(run: Run) -> None:
    predictor = Predictor.load(run.folder / "checkpoints" / "best.ckpt", precision="32-true")
    together = predictor.predict_proba(TEXTS)
    alone = np.concatenate([predictor.predict_proba([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-6)
    assert predictor.predict(TEXTS) == [predictor.class_names[i] for i in together.argmax(axis=1)]
    assert predictor.predict_proba([]).shape == (0, 2)


def test_bfloat16_changes_probabilities_a_little(run: Run) -> None:
    path = run.folder / "checkpoints" / "best.ckpt"
    exact, fast = (Predictor.load(path, precision=name).predict_proba(TEXTS) for name in ("32-true", "bf16-mixed"))
    assert 0 < np.abs(exact - fast).max() < 0.02


def test_last_checkpoint_predicts_too(run: Run) -> None:
    Predictor.load(run.folder / "checkpoints" / "last.ckpt").predict(TEXTS)


def test_padded_pooling_reads_a_text_alone_as_in_a_batch(train: Callable[..., Run]) -> None:
    run = train("pooling=padded_mean", "trainer.max_epochs=1")
    predictor = Predictor.load(run.folder / "checkpoints" / "best.ckpt", precision="32-true")
    alone = np.concatenate([predictor.predict_proba([text]) for text in TEXTS])
    np.testing.assert_allclose(predictor.predict_proba(TEXTS), alone, atol=1e-6)


def test_texts_longer_than_the_context_are_cut(run: Run) -> None:
    predictor = Predictor.load(run.folder / "checkpoints" / "best.ckpt")
    long = predictor.predict_proba(["1\n" * 1500, "1\n" * 512])  # two tokens each
    np.testing.assert_allclose(long[0], long[1], atol=1e-6)


def test_empty_text_is_refused(run: Run) -> None:
    predictor = Predictor.load(run.folder / "checkpoints" / "best.ckpt")
    with pytest.raises(UserError, match="text 2 of 2 is empty"):
        predictor.predict(["hello", " \n"])


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        Predictor.load(tmp_path / "nothing.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    for name in ("other.ckpt", "text.ckpt"):
        with pytest.raises(UserError, match="is not a whole checkpoint of this project"):
            Predictor.load(tmp_path / name)


def test_latest_is_the_last_one_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Train one first"):
        latest_checkpoint(tmp_path)
    for i, name in enumerate(("b", "c", "a")):
        path = tmp_path / "runs" / name / "checkpoints" / "best.ckpt"
        path.parent.mkdir(parents=True)
        path.touch()
        import os

        os.utime(path, (i, i))
    assert latest_checkpoint(tmp_path).parts[-3] == "a"
