"""Metrics against values worked out by hand."""

import math

import pytest
import torch

from gpt_classifier.tasks import measure, scalars
from gpt_classifier.training.report import misclassified

LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 0.5]])
LABELS = torch.tensor([0, 1, 1, 0])


def test_metrics_are_those_worked_out_by_hand() -> None:
    metrics = measure(LOGITS, LABELS, ["ham", "spam"])
    assert metrics["messages"] == 4
    assert metrics["accuracy"] == 0.5
    assert metrics["confusion_matrix"] == [[1, 1], [1, 1]]
    assert metrics["precision"] == {"ham": 0.5, "spam": 0.5}
    assert metrics["auroc"] == 0.5  # spam scores -2, 1, -3, 0.5: two of four pairs are in order
    margins = (2, 1, -3, -0.5)
    assert metrics["loss"] == pytest.approx(sum(math.log1p(math.exp(-m)) for m in margins) / 4, abs=1e-6)


def test_auroc_of_a_split_that_lacks_a_class_is_undefined() -> None:
    metrics = measure(LOGITS[:1], LABELS[:1], ["ham", "spam"])
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
