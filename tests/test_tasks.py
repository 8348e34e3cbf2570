"""Metrics against values worked out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from gpt_classifier.tasks import TASKS, SingleLabel, Task, scalars, task_from_state
from gpt_classifier.training.report import misclassified

LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 0.5]])
LABELS = torch.tensor([0, 1, 1, 0])
SPAM = SingleLabel(["ham", "spam"])

EVERY: dict[str, tuple[Task, list]] = {"single_label": (SingleLabel(["a", "b", "c"]), ["c", "a", "b", "a"])}
"""Every task with labels of four texts: a new one joins here."""

every_task = pytest.mark.parametrize("name", EVERY)


@every_task
def test_logits_that_are_sure_and_right_have_no_loss_and_are_correct(name: str) -> None:
    task, labels = EVERY[name]
    targets = task.targets(labels)
    assert len(targets) == 4
    sure = 50.0 * (2 * F.one_hot(targets, len(task.classes)).float() - 1)
    assert task.loss(sure, targets).item() == pytest.approx(0, abs=1e-6)
    assert task.correct(sure, targets).all()
    assert not task.correct(-sure, targets).any()
    assert torch.equal(task.decide(task.probabilities(sure)), task.decide(sure))
    metrics = task.metrics(sure, targets)
    assert metrics["accuracy"] == 1.0
    assert metrics[task.monitor] > task.metrics(-sure, targets)[task.monitor]


@every_task
def test_weights_scale_the_loss_of_their_text(name: str) -> None:
    task, labels = EVERY[name]
    targets, logits = task.targets(labels), torch.randn(4, len(task.classes))
    alone = torch.stack([task.loss(logits[i : i + 1], targets[i : i + 1]) for i in range(4)])
    weights = torch.tensor([2.0, 0.0, 1.0, 1.0])
    torch.testing.assert_close(task.loss(logits, targets, weights), (weights * alone).mean())
    torch.testing.assert_close(task.loss(logits, targets), alone.mean())


@every_task
def test_state_is_all_of_it(name: str) -> None:
    task, labels = EVERY[name]
    again = task_from_state(task.state())
    assert type(again) is type(task)
    assert again.classes == task.classes
    assert torch.equal(again.targets(labels), task.targets(labels))
    assert task.state()["kind"] in TASKS


def test_unknown_task_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        task_from_state({"kind": "regression"})


def test_metrics_are_those_worked_out_by_hand() -> None:
    metrics = SPAM.metrics(LOGITS, LABELS)
    assert metrics["messages"] == 4
    assert metrics["accuracy"] == 0.5
    assert metrics["confusion_matrix"] == [[1, 1], [1, 1]]
    assert metrics["mcc"] == 0.0
    assert metrics["precision"] == {"ham": 0.5, "spam": 0.5}
    assert metrics["auroc"] == 0.5  # spam scores -2, 1, -3, 0.5: two of four pairs are in order
    margins = (2, 1, -3, -0.5)
    assert metrics["loss"] == pytest.approx(sum(math.log1p(math.exp(-m)) for m in margins) / 4, abs=1e-6)


def test_auroc_of_a_split_that_lacks_a_class_is_undefined() -> None:
    metrics = SPAM.metrics(LOGITS[:1], LABELS[:1])
    assert metrics["auroc"] is None
    assert "val/auroc" not in scalars(metrics, "val")
    assert scalars(metrics, "val")["val/recall/ham"] == 1.0


def test_mistakes_are_listed_most_confident_first() -> None:
    import pandas as pd

    texts = pd.DataFrame({"text": ["a", "b", "c", "d"]})
    table = misclassified(LOGITS, LABELS, texts, ["ham", "spam"])
    assert table["text"].tolist() == ["c", "d"]
    assert table["true"].tolist() == ["spam", "ham"]
    assert table["probability"].tolist() == [0.9526, 0.6225]
