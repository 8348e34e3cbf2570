"""The head before the first step."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Run, book_state

from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.tasks import SingleLabel
from gpt_classifier.training.linear_probe import STRENGTHS, UNVALIDATED, Seen, probe

PROBED = ["head_init=linear_probe", "pooling=max_and_embeddings", "scheduler=none"]


TASK = SingleLabel(["a", "b", "c"])


def noisy(n: int, noise: float, seed: int = 0, truth: int = 0) -> Seen:
    """Three classes of seven features of unlike scales."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(3, 7, generator=torch.Generator().manual_seed(truth))
    targets = torch.arange(n) % 3
    features = directions[targets] + noise * torch.randn(n, 7, generator=generator)
    return Seen(features * torch.tensor([1, 5, 0.2, 1, 1, 30, 1]) + 2, targets, None)


def test_probe_is_the_penalised_regression_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    train = noisy(60, 1.0)
    weight, bias = probe(train, None, TASK)
    standard = ((train.features - train.features.mean(0)) / train.features.std(0, correction=0) / 7**0.5).numpy()
    expected = linear_model.LogisticRegression(C=UNVALIDATED, tol=1e-8, max_iter=5000).fit(standard, train.targets)
    found = (train.features @ weight.T + bias).softmax(dim=-1)
    np.testing.assert_allclose(found.numpy(), expected.predict_proba(standard), atol=2e-3)


def test_validation_chooses_the_penalty() -> None:
    def size(train: Seen, val: Seen | None) -> float:
        return float((probe(train, val, TASK)[0] * train.features.std(0)).norm())

    assert STRENGTHS[0] < UNVALIDATED < STRENGTHS[-1]
    hard, easy = noisy(30, 3.0), noisy(30, 0.1)
    assert size(hard, noisy(300, 3.0, seed=1)) < size(hard, None)
    assert size(easy, noisy(300, 0.1, seed=1)) > size(easy, None)
    some, doubtful = noisy(30, 0.5), noisy(6, 3.0, seed=1)
    assert size(some, doubtful) < size(some, None)  # six messages can't tell


def test_a_feature_that_is_constant_and_a_class_without_texts_do_no_harm() -> None:
    train = noisy(30, 1.0)
    train.features[:, 2] = 4.0
    weight, bias = probe(train, None, SingleLabel("abcde"))
    assert weight.isfinite().all()
    assert bias.isfinite().all()
    assert (train.features @ weight.T + bias).argmax(dim=-1).max() < 3


def test_without_steps_the_probe_is_what_is_measured_and_kept(train: Callable[..., Run]) -> None:
    run = train(*PROBED, "optimizer.lr=0", "optimizer.weight_decay=0", "trainer.max_epochs=1")
    best = run.metrics["best"]
    assert (best["epoch"], best["step"]) == (0, 0)
    assert best["val"] == run.metrics["start"]["val"] == run.metrics["last"]["val"]
    assert best["test"]["accuracy"] > 0.7  # random weights, but for the words
    random = train("head_init=random", "optimizer.lr=0", "trainer.max_epochs=1", folder="random")
    assert random.metrics["best"]["test"]["accuracy"] < best["test"]["accuracy"]


def test_a_run_goes_on_from_its_probe_and_is_resumed_without_another(train: Callable[..., Run]) -> None:
    whole = train(*PROBED, "trainer.max_epochs=2", folder="whole")
    first = train(*PROBED, "trainer.max_epochs=1", folder="first")
    resumed = train(
        *PROBED, "trainer.max_epochs=2", f"ckpt_path={first.folder / 'checkpoints' / 'last.ckpt'}", folder="resumed"
    )
    expected, found = (run.checkpoint("last")["state_dict"] for run in (whole, resumed))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert resumed.metrics["start"] == whole.metrics["start"]
    losses = [row["val/loss"] for row in whole.checkpoint("last")["progress"]["history"] if "val/loss" in row]
    assert len(losses) == 3


def test_a_head_that_was_fine_tuned_is_kept(
    train: Callable[..., Run], tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    config = GPTConfig(vocab_size=8192, n_positions=1024, n_embd=48, n_layer=2, n_head=6)
    head = {"weight": torch.randn(2, 48), "bias": torch.randn(2)}
    weights = tmp_path / "review_classifier.pth"
    torch.save(book_state(GPT(config).initialise().state_dict(), head), weights)
    options = ["head_init=linear_probe", f"model.weights={weights}", "optimizer.lr=0", "trainer.max_epochs=1"]
    run = train(*options)
    torch.testing.assert_close(run.checkpoint()["state_dict"]["model.head.weight"], head["weight"])
    with pytest.raises(SystemExit):
        train(*options, "pooling=max_and_embeddings", folder="other")
    assert "has a head that reads 48 features of a text, but this pooling gives 96" in capfd.readouterr().err


@pytest.mark.parametrize("evaluate", ["all", "never"])
def test_whatever_is_measured_a_probe_is_fitted(train: Callable[..., Run], evaluate: str) -> None:
    options = [*PROBED, "optimizer.lr=0", "optimizer.weight_decay=0", "trainer.max_epochs=1"]
    run = train(*options, f"evaluate={evaluate}")
    # without validation another penalty may be chosen: then the head is at least not the random one
    other = train(*options, *([] if evaluate == "all" else ["head_init=random"]), folder="other")
    heads = [each.checkpoint("last")["state_dict"]["model.head.weight"] for each in (run, other)]
    assert torch.equal(*heads) == (evaluate == "all")
    if evaluate == "all":
        assert run.metrics["start"]["test"] == run.metrics["best"]["test"]
    else:
        assert "start" not in run.metrics
