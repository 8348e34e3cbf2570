"""Metrics against values worked out by hand."""

import math
import time

import numpy as np
import pytest
import sklearn.metrics
import torch
import torch.nn.functional as F
from torchmetrics.functional import classification

from gpt_classifier.confusion import Confusion
from gpt_classifier.tasks import TASKS, Metrics, SingleLabel, Task, scalars, task_from_state
from gpt_classifier.training.predictions import Outputs, SplitPredictions
from gpt_classifier.training.report import misclassified

LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 0.5]])
LABELS = torch.tensor([0, 1, 1, 0])
SPAM = SingleLabel(["ham", "spam"])

EVERY: dict[str, tuple[Task, list]] = {"single_label": (SingleLabel(["a", "b", "c"]), ["c", "a", "b", "a"])}
"""Every task with labels of four texts: a new one joins here."""


def measured(task: Task, logits: torch.Tensor, targets: torch.Tensor) -> Metrics:
    return SplitPredictions.of(task, logits, targets).metrics(task)


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
    metrics = measured(task, sure, targets)
    assert metrics["accuracy"] == 1.0
    assert metrics[task.monitor] > measured(task, -sure, targets)[task.monitor]


@every_task
def test_weights_scale_the_loss_of_their_text(name: str) -> None:
    task, labels = EVERY[name]
    targets, logits = task.targets(labels), torch.randn(4, len(task.classes))
    alone = torch.stack([task.loss(logits[i : i + 1], targets[i : i + 1]) for i in range(4)])
    weights = torch.tensor([2.0, 0.0, 1.0, 1.0])
    torch.testing.assert_close(task.loss(logits, targets, weights), (weights * alone).mean())
    torch.testing.assert_close(task.loss(logits, targets), alone.mean())


@every_task
def test_probabilities_are_targets_too(name: str) -> None:
    task, labels = EVERY[name]
    targets = task.targets(labels)
    logits = torch.randn(4, len(task.classes))
    same = task.probabilities(logits)
    torch.testing.assert_close(task.losses(logits, same), torch.zeros(4), atol=1e-6, rtol=0)
    assert task.loss(logits, same.flip(0)) > 0
    assert task.correct(logits, same).all()
    sure = F.one_hot(targets, len(task.classes)).float()  # of which a divergence is the cross-entropy
    torch.testing.assert_close(task.loss(logits, sure), task.loss(logits, targets))
    torch.testing.assert_close(task.correct(logits, sure), task.correct(logits, targets))
    assert measured(task, logits, sure)["accuracy"] == measured(task, logits, targets)["accuracy"]


def test_temperature_softens_both_sides_of_the_divergence() -> None:
    task = SingleLabel(["a", "b", "c"], temperature=2.0)
    logits, teacher = torch.randn(4, 3), torch.randn(4, 3)
    weights = torch.tensor([2.0, 0.0, 1.0, 1.0])
    p, q = (teacher / 2).softmax(dim=-1), (logits / 2).softmax(dim=-1)
    expected = 4 * (p * (p.log() - q.log())).sum(dim=-1)
    torch.testing.assert_close(task.losses(logits, teacher.softmax(dim=-1)), expected)
    torch.testing.assert_close(task.loss(logits, teacher.softmax(dim=-1), weights), (weights * expected).mean())
    torch.testing.assert_close(task.loss(logits, LABELS), F.cross_entropy(logits, LABELS))


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
    metrics = measured(SPAM, LOGITS, LABELS)
    assert metrics["messages"] == 4
    assert metrics["accuracy"] == 0.5
    assert metrics["confusion_matrix"] == [[1, 1], [1, 1]]
    assert metrics["mcc"] == 0.0
    assert metrics["precision"] == {"ham": 0.5, "spam": 0.5}
    assert metrics["auroc"] == 0.5  # spam scores -2, 1, -3, 0.5: two of four pairs are in order
    margins = (2, 1, -3, -0.5)
    assert metrics["loss"] == pytest.approx(sum(math.log1p(math.exp(-m)) for m in margins) / 4, abs=1e-6)


def test_auroc_of_a_split_that_lacks_a_class_is_undefined() -> None:
    metrics = measured(SPAM, LOGITS[:1], LABELS[:1])
    assert metrics["auroc"] is None
    assert "val/auroc" not in scalars(metrics, "val")
    assert scalars(metrics, "val")["val/recall/ham"] == 1.0


def made_up(texts: int, classes: int, seed: int = 0) -> tuple[SingleLabel, torch.Tensor, torch.Tensor]:
    """A task, logits of a classifier that is right at times, and targets that cover every class if they can."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(texts, classes, generator=generator)
    targets = torch.arange(texts) % classes
    right = torch.rand(texts, generator=generator) < 0.4
    logits[right, targets[right]] += 5
    logits[::7] = logits[::7].round()  # ties
    return SingleLabel([f"c{i}" for i in range(classes)]), logits, targets


@pytest.mark.parametrize(("texts", "classes"), [(40, 2), (300, 5), (20, 30), (400, 60)])
def test_metrics_are_torchmetrics_and_scikit_learns(texts: int, classes: int) -> None:
    task, logits, targets = made_up(texts, classes)
    metrics, predicted = measured(task, logits, targets), logits.argmax(dim=-1)
    expected = {
        "precision": classification.multiclass_precision(logits, targets, classes, average="none"),
        "recall": classification.multiclass_recall(logits, targets, classes, average="none"),
        "f1": classification.multiclass_f1_score(logits, targets, classes, average="none"),
    }
    for name, values in expected.items():
        assert list(metrics[name]) == task.classes
        assert list(metrics[name].values()) == pytest.approx(values.tolist(), abs=1e-6)
    assert metrics["mcc"] == pytest.approx(
        classification.multiclass_matthews_corrcoef(logits, targets, classes).item(), abs=1e-6
    )
    assert metrics["loss"] == pytest.approx(F.cross_entropy(logits, targets).item(), abs=1e-5)
    assert metrics["macro_f1"] == pytest.approx(sklearn.metrics.f1_score(targets, predicted, average="macro"))
    recalls = sklearn.metrics.recall_score(targets, predicted, average=None, labels=targets.unique().tolist())
    assert metrics["balanced_accuracy"] == pytest.approx(recalls.mean())
    if texts < classes:
        assert metrics["auroc"] is None
    else:
        auroc = classification.multiclass_auroc(logits.softmax(dim=-1), targets, classes)
        assert metrics["auroc"] == pytest.approx(auroc.item(), abs=1e-6)
    matrix = sklearn.metrics.confusion_matrix(targets, predicted, labels=range(classes))
    assert sum(metrics["support"].values()) == texts
    if classes <= 50:
        assert metrics["confusion_matrix"] == matrix.tolist()
    else:
        assert "confusion_matrix" not in metrics
    np.testing.assert_array_equal(Confusion.of_metrics(metrics, task.classes).matrix(), matrix)


def test_of_many_classes_the_pairs_that_were_confused_are_told_the_most_frequent_first() -> None:
    task, _, _ = made_up(1, 51)
    targets = torch.tensor([3, 3, 3, 4, 4, 5])
    logits = F.one_hot(torch.tensor([7, 7, 3, 4, 8, 5]), 51).float()
    assert measured(task, logits, targets)["confusion_pairs"] == [["c3", "c7", 2], ["c4", "c8", 1]]


def test_metrics_of_ten_thousand_classes_take_memory_of_their_texts_alone() -> None:
    """A dense matrix of 10,000 classes would be of 800 MB, and a figure for each would fill a logger's file."""
    task, logits, targets = made_up(500, 10_000)
    resource = pytest.importorskip("resource")
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    metrics = measured(task, logits, targets)
    assert time.perf_counter() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB
    assert len(metrics["confusion_pairs"]) == round(500 * (1 - metrics["accuracy"]))
    drawn = scalars(metrics, "val")
    assert {"val/loss", "val/accuracy", "val/macro_f1", "val/balanced_accuracy", "val/mcc"} == set(drawn)


def test_logits_that_are_no_numbers_have_metrics_all_the_same() -> None:
    metrics = measured(SPAM, torch.full((2, 2), float("nan")), torch.tensor([0, 1]))
    assert math.isnan(metrics["loss"])
    assert metrics["auroc"] is None


def test_picture_of_many_classes_is_of_those_that_are_confused() -> None:
    wrong = np.array([70, 70, 5])
    confusion = Confusion(np.append(np.arange(100), [80, 80, 6]), np.append(np.arange(100), wrong), 100)
    matrix, _, names, note = confusion.drawn([f"c{i}" for i in range(100)])
    assert {"c5", "c6", "c70", "c80"} <= set(names)
    assert matrix[names.index("c80"), names.index("c70")] == 2
    assert len(names) == len(matrix) < 50
    assert f"{len(names)} most confused of 100 classes" in note


def test_mistakes_are_listed_most_confident_first() -> None:
    import pandas as pd

    texts = pd.DataFrame({"text": ["a", "b", "c", "d"]})
    table = misclassified(SplitPredictions.of(SPAM, LOGITS, LABELS), texts, ["ham", "spam"])
    assert table["text"].tolist() == ["c", "d"]
    assert table["true"].tolist() == ["spam", "ham"]
    assert table["probability"].tolist() == [0.9526, 0.6225]
    with_ids = misclassified(
        SplitPredictions.of(SPAM, LOGITS, LABELS), texts.assign(**{"extra.id": range(4)}), ["h", "s"]
    )
    assert with_ids["extra.id"].tolist() == [2, 3]


def test_batches_in_any_order_are_put_where_they_belong() -> None:
    outputs = Outputs(SPAM, 5)
    outputs.add(torch.tensor([4, 1]), LOGITS[:2], LABELS[:2])
    outputs.add(torch.tensor([0, 2]), LOGITS[2:], LABELS[2:])
    found = outputs.gather(world_size=1)  # message 3 was not measured
    for part, expected in zip(found, SplitPredictions.of(SPAM, LOGITS, LABELS), strict=True):
        assert torch.equal(part, expected[[2, 1, 3, 0]])
