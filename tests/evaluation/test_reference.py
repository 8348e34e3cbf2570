"""What a fine-tuned model is measured against."""

import sys

import numpy as np
import pandas as pd
import pytest

from gpt_classifier.evaluation import reference
from gpt_classifier.evaluation.metrics import Predictions
from gpt_classifier.evaluation.reference import Reference, linear_model, references

TRAIN = [
    ("call now to win", "spam"),
    ("win a prize now", "spam"),
    ("see you at home", "ham"),
    ("at home at five", "ham"),
]
VAL = [("win now", "spam"), ("home at five", "ham")]
TEST = [("you win a prize", "spam"), ("call to win", "spam"), ("see you at five", "ham")]


def reported(rows: list[tuple[str, str]] = TEST, names: tuple[str, ...] = ("ham", "spam")) -> Predictions:
    texts, labels = zip(*rows, strict=True)
    ids = np.array([names.index(label) for label in labels])
    return Predictions(texts, ids, np.zeros((len(rows), len(names)), np.float32), np.ones(len(rows)), list(names))


def run(train: list[tuple[str, str]] = TRAIN, val: list[tuple[str, str]] = VAL) -> pd.DataFrame:
    rows = [(*row, split) for split, part in (("train", train), ("val", val), ("test", TEST)) for row in part]
    return pd.DataFrame(rows, columns=["text", "label", "split"])


def test_a_linear_model_learns_from_the_training_messages_alone() -> None:
    (linear, majority), note = references(reported(), run([*TRAIN, ("bye", "ham")]), fresh=True)
    assert (linear.name, linear.right, linear.accuracy, linear.macro_f1) == ("linear model", 3, 1, 1)
    assert "trained on the same 5 messages" in linear.how
    assert "chosen on 2 validation messages" in linear.how
    assert (majority.name, majority.right) == ("majority class", 1)
    assert "“ham”" in majority.how
    assert not note


def test_validation_chooses_features_and_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "STRENGTHS", (1e-9, 1.0))  # the first learns nothing but the larger class
    linear = linear_model(reported(), pd.DataFrame([*TRAIN, ("bye", "ham")], columns=["text", "label"]), run()[4:6])
    assert isinstance(linear, Reference)
    assert "C=1," in linear.how
    assert linear.accuracy == 1


def test_without_validation_nothing_is_tuned() -> None:
    (linear, _), _ = references(reported(), run(val=[]), fresh=True)
    assert "C=1," in linear.how
    assert "not tuned" in linear.how


@pytest.mark.parametrize(
    ("frame", "fresh", "reason"),
    [
        (None, True, "not beside the checkpoint"),
        (run(), False, "would train or choose it"),
        (run([("win", "spam"), ("now", "spam")]), True, "one class alone"),
        (run([("w" * 10_000_001, "spam"), ("now", "ham")]), True, "compare --baselines"),
    ],
    ids=["unknown", "not fresh", "one class", "too many"],
)
def test_a_missing_linear_model_is_explained(frame: pd.DataFrame | None, fresh: bool, reason: str) -> None:
    found, note = references(reported(), frame, fresh)
    assert [one.name for one in found] == ["majority class"]
    assert reason in note


def test_without_scikit_learn_there_is_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    found, note = references(reported(), run(), fresh=True)
    assert len(found) == 1
    assert 'pip install "gpt-classifier[compare]"' in note


def test_without_training_labels_the_messages_name_the_majority() -> None:
    (majority,), _ = references(reported(), None, fresh=True)
    assert (majority.right, majority.accuracy) == (2, pytest.approx(2 / 3))
    assert "the most frequent class of these messages" in majority.how
