"""The pictures of a run say which epoch was kept, and what that is worth."""

from typing import Any

import pytest

from gpt_classifier.figures import curves
from gpt_classifier.training.report import final_value

HISTORY = [
    {"epoch": epoch, "examples": 100 * epoch, "val/loss": loss, "val/accuracy": 1 - loss}
    for epoch, loss in ((1.0, 0.5), (2.0, 0.3), (3.0, 0.4))
]
METRICS = {"accuracy": 0.945, "loss": 0.2409}


def test_best_epoch_is_marked() -> None:
    axes = curves(HISTORY, "loss", best=2, title="test loss 0.300").axes[0]
    marked = [line.get_xdata() for line in axes.lines if line.get_label() == "best epoch, 2"]
    assert [list(line) for line in marked] == [[2, 2]]
    assert axes.get_title() == "test loss 0.300"


def test_without_a_best_epoch_nothing_is_marked() -> None:
    assert len(curves(HISTORY, "loss").axes[0].lines) == 1


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ({"val": {"accuracy": 0.5, "loss": 1.0}, "test": METRICS}, "test accuracy 94.50%, with the weights of epoch 4"),
        ({"val": METRICS}, "validation accuracy 94.50%, with the weights of epoch 4"),
        ({}, ""),
    ],
    ids=["test", "validation alone", "nothing measured"],
)
def test_title_has_the_final_value(splits: dict[str, Any], expected: str) -> None:
    best = {"epoch": 4, "step": 40, **splits}
    assert final_value("accuracy", best) == expected
    assert final_value("loss", best) == expected.replace("accuracy 94.50%", "loss 0.241")
