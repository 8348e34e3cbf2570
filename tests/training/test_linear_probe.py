"""The head before the first step."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Run, book_state

from gpt_classifier import TextClassifier
from gpt_classifier.inference import inside
from gpt_classifier.inference.predictor import Predictor
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.linear_probe import FEWEST, STRENGTHS, UNVALIDATED, Bags, Fit, Seen, probe, probe_by_part
from gpt_classifier.tasks import SingleLabel

PROBED = ["head_init=linear_probe", "bag_of_tokens=true", "pooling=max", "scheduler=none"]


TASK = SingleLabel(["a", "b", "c"])


def noisy(n: int, noise: float, seed: int = 0, truth: int = 0) -> Seen:
    """Three classes of seven features of unlike scales."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(3, 7, generator=torch.Generator().manual_seed(truth))
    targets = torch.arange(n) % 3
    features = directions[targets] + noise * torch.randn(n, 7, generator=generator)
    return Seen(features * torch.tensor([1, 5, 0.2, 1, 1, 30, 1]) + 2, None, targets, None)


def test_probe_is_the_penalised_regression_of_scikit_learn() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    train = noisy(60, 1.0)
    fit = probe(train, None, TASK)
    standard = ((train.features - train.features.mean(0)) / train.features.std(0, correction=0) / 7**0.5).numpy()
    expected = linear_model.LogisticRegression(C=UNVALIDATED, tol=1e-8, max_iter=5000).fit(standard, train.targets)
    found = fit.logits(train).softmax(dim=-1)
    np.testing.assert_allclose(found.numpy(), expected.predict_proba(standard), atol=2e-3)


def test_validation_chooses_the_penalty() -> None:
    def size(train: Seen, val: Seen | None) -> float:
        return float((probe(train, val, TASK).weight * train.features.std(0)).norm())

    assert STRENGTHS[0] < UNVALIDATED < STRENGTHS[-1]
    hard, easy = noisy(30, 3.0), noisy(30, 0.1)
    assert size(hard, noisy(300, 3.0, seed=1)) < size(hard, None)
    assert size(easy, noisy(300, 0.1, seed=1)) > size(easy, None)
    some, doubtful = noisy(30, 0.5), noisy(6, 3.0, seed=1)
    assert size(some, doubtful) < size(some, None)  # six messages can't tell


def test_without_validation_some_training_texts_choose_the_penalty() -> None:
    def size(fit: Fit, train: Seen) -> float:
        return float((fit.weight * train.features.std(0)).norm())

    hard, easy = noisy(60, 3.0), noisy(60, 0.1)
    assert size(probe_by_part(hard, TASK, None, seed=1), hard) < size(probe(hard, None, TASK), hard)
    assert size(probe_by_part(easy, TASK, None, seed=1), easy) > size(probe(easy, None, TASK), easy)
    few = noisy(FEWEST - 1, 3.0)
    assert torch.equal(probe_by_part(few, TASK, None, seed=1).weight, probe(few, None, TASK).weight)


def test_validation_whose_features_are_no_numbers_ends_nothing() -> None:
    val = noisy(6, 1.0)
    val.features[0, 0] = torch.nan
    assert probe(noisy(30, 1.0), val, TASK).weight.isfinite().all()


def test_a_feature_that_is_constant_and_a_class_without_texts_do_no_harm() -> None:
    train = noisy(30, 1.0)
    train.features[:, 2] = 4.0
    logits = probe(train, None, SingleLabel("abcde")).logits(train)
    assert logits.isfinite().all()
    assert logits.argmax(dim=-1).max() < 3


def test_a_feature_that_only_rounding_varies_is_not_stretched() -> None:
    train = noisy(30, 1.0)
    train.features[:, 2] = 4 + 1e-6 * (train.targets - 1)  # were it stretched, it would tell the classes
    fit = probe(train, None, TASK)
    other = train._replace(features=train.features.clone())
    other.features[:, 2] += 0.02  # as bfloat16 rounds
    torch.testing.assert_close(fit.logits(other), fit.logits(train), atol=1e-4, rtol=0)


def test_bags_of_tokens_are_features_of_the_same_regression() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    train = noisy(60, 1.0)
    dense = torch.zeros(60, 50)
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randperm(40, generator=generator)[: 1 + i % 5] + 3 for i in range(60)]
    for i, row in enumerate(rows):
        dense[i, row] = 1 / len(row) ** 0.5
    counts = torch.tensor([len(row) for row in rows])
    bags = Bags(torch.cat(rows), dense[dense > 0], counts.cumsum(0) - counts)
    bags = bags._replace(values=torch.cat([dense[i, row] for i, row in enumerate(rows)]))
    alone = Bags(torch.arange(50), torch.ones(50), torch.arange(50))  # no token has letters in common with another
    fit = probe(train._replace(bags=bags), None, TASK, alone)
    standard = (train.features - train.features.mean(0)) / train.features.std(0, correction=0) / 7**0.5
    both = torch.cat([standard, dense], dim=1).numpy()
    expected = linear_model.LogisticRegression(C=UNVALIDATED, tol=1e-8, max_iter=5000).fit(both, train.targets)
    found = fit.logits(train._replace(bags=bags)).softmax(dim=-1)
    np.testing.assert_allclose(found.numpy(), expected.predict_proba(both), atol=2e-3)
    assert fit.words is not None
    assert not fit.words[:3].any()  # tokens of no text


def test_what_is_learned_of_a_token_holds_for_those_spelt_alike() -> None:
    bags = Bags(torch.tensor([0, 1, 2]), torch.ones(3), torch.arange(3))
    ngrams = Bags(torch.tensor([0, 1, 2, 0, 3]), torch.ones(5), torch.tensor([0, 1, 2, 3, 5]))  # token 3 has that of 0
    train = Seen(torch.zeros(3, 2), bags, torch.arange(3), None)
    fit = probe(train, None, TASK, ngrams)
    assert fit.words is not None
    torch.testing.assert_close(fit.words[3], fit.words[0])
    assert fit.words[3].argmax() == 0


def test_validation_chooses_how_much_features_count_beside_tokens() -> None:
    def share(noise: float) -> float:
        """Of the logits' variance, what is due to features."""
        train, val = noisy(60, noise), noisy(300, noise, seed=1)
        alone = Bags(torch.arange(9), torch.ones(9), torch.arange(9))
        bags = [
            Bags(
                seen.targets * 3 + torch.arange(len(seen.targets)) % 2,
                torch.ones(len(seen.targets)),
                torch.arange(len(seen.targets)),
            )
            for seen in (train, val)
        ]
        train, val = train._replace(bags=bags[0]), val._replace(bags=bags[1])
        fit = probe(train, val, TASK, alone)
        assert val.bags is not None
        assert fit.words is not None
        return float((val.features @ fit.weight.T).var() / val.bags.logits(fit.words).var())

    assert share(10.0) < share(0.1)


def test_without_steps_the_probe_is_what_is_measured_and_kept(train: Callable[..., Run]) -> None:
    run = train(*PROBED, "optimizer.lr=0", "optimizer.weight_decay=0", "trainer.max_epochs=1")
    best = run.metrics["best"]
    assert (best["epoch"], best["step"]) == (0, 0)
    assert best["val"] == run.metrics["start"]["val"] == run.metrics["last"]["val"]
    assert best["test"]["accuracy"] > 0.7  # random weights, but for the words
    random = train("head_init=random", "optimizer.lr=0", "trainer.max_epochs=1", folder="random")
    assert random.metrics["best"]["test"]["accuracy"] < best["test"]["accuracy"]


def test_the_head_learns_at_a_part_of_the_rate_beside_blocks_alone(train: Callable[..., Run]) -> None:
    def head_and_block(folder: str, *options: str) -> tuple[torch.Tensor, torch.Tensor]:
        run = train(*PROBED, "optimizer.weight_decay=0", "trainer.max_epochs=1", *options, folder=folder)
        state = run.checkpoint("last")["state_dict"]
        return state["model.head.weight"], state["model.backbone.ln_f.weight"]

    probe, untrained = head_and_block("probe", "optimizer.lr=0")
    head, block = head_and_block("still", "optimizer.lr=1e-3", "head_rate=0")
    assert torch.equal(head, probe)
    assert not torch.equal(block, untrained)
    assert not torch.equal(head_and_block("slow", "optimizer.lr=1e-3", "head_rate=0.1")[0], probe)
    assert not torch.equal(head_and_block("alone", "optimizer.lr=1e-3", "head_rate=0", "freeze=head_only")[0], probe)


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


def test_a_head_that_was_fine_tuned_is_kept(train: Callable[..., Run], tmp_path: Path) -> None:
    config = GPTConfig(vocab_size=8192, n_positions=1024, n_embd=48, n_layer=2, n_head=6)
    head = {"weight": torch.randn(2, 48), "bias": torch.randn(2)}
    weights = tmp_path / "review_classifier.pth"
    torch.save(book_state(GPT(config).initialise().state_dict(), head), weights)
    options = [*PROBED, f"model.weights={weights}", "optimizer.lr=0", "trainer.max_epochs=1"]
    run = train(*options)
    torch.testing.assert_close(run.checkpoint()["state_dict"]["model.head.weight"], head["weight"])
    assert "model.words.weight" not in run.checkpoint()["state_dict"]


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


def test_what_is_known_of_tokens_is_saved_and_traced(train: Callable[..., Run], tmp_path: Path) -> None:
    run = train(*PROBED, "trainer.max_epochs=1")
    checkpoint = run.folder / "checkpoints" / "best.ckpt"
    assert run.checkpoint()["state_dict"]["model.words.weight"].any()
    classifier = TextClassifier.from_checkpoint(checkpoint, precision="32-true")
    assert classifier.score(run.texts("test"), run.labels("test")) == pytest.approx(
        run.metrics["best"]["test"]["accuracy"]
    )
    classifier.save(tmp_path / "bundle")
    text = "a prize, a prize and lunch"
    expected = classifier.predict_proba([text])
    again = TextClassifier.load(tmp_path / "bundle", precision="32-true")
    np.testing.assert_allclose(again.predict_proba([text]), expected, atol=1e-6)
    predictor = Predictor.open(checkpoint, precision="32-true")
    np.testing.assert_allclose(inside.trace(predictor, text).probabilities[-1:], expected, atol=1e-5)


def test_very_many_classes_keep_a_random_head(
    train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("gpt_classifier.training.linear_probe.MOST_CLASSES", 1)
    run = train(*PROBED, "trainer.max_epochs=1")
    assert "no linear probe under FSDP or for more than 1 classes" in capfd.readouterr().out
    assert "model.words.weight" not in run.checkpoint()["state_dict"]
