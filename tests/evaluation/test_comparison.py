"""Classifiers side by side: paired tests, baselines, and one sentence."""

import re

import numpy as np
import pytest
from scipy.stats import binomtest

from gpt_classifier.evaluation import comparison
from gpt_classifier.evaluation.baselines import fit_baselines
from gpt_classifier.evaluation.comparison import Contender

LABELS = np.array([0, 1] * 100)
MANY = np.array([0, 1] * 1000)


def contender(name: str, wrong: range, speed: float = 100.0, labels: np.ndarray = LABELS) -> Contender:
    predicted = labels.copy()
    predicted[list(wrong)] ^= 1
    return Contender(name, predicted, None, speed, 1.0)


def test_mcnemar_is_the_exact_binomial_test_of_the_differing_messages() -> None:
    paired = comparison.pair(contender("a", range(5)), contender("b", range(3, 20)), LABELS)
    assert (paired.only_first, paired.only_second) == (15, 3)
    assert paired.p_value == pytest.approx(binomtest(3, 18).pvalue)
    assert paired.low < 12 / 200 < paired.high
    width = 2 * 1.96 * np.std([1] * 15 + [-1] * 3 + [0] * 182) / 200**0.5
    assert paired.high - paired.low == pytest.approx(width, rel=0.1)
    same = comparison.pair(contender("a", range(5)), contender("b", range(5)), LABELS)
    assert (same.p_value, same.low, same.high) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("labels", "best", "faster", "expected"),
    [
        (MANY, range(5), (range(6), 900), r"Ship b: with 99\.70% .* 0\.\d points behind a .* and 9 times as fast"),
        (MANY, range(5), (range(6), 199), r"Ship a, with 99\.75% .* 2000 messages are too few to be sure"),
        (MANY, range(5), (range(13), 900), r"Ship a, .* b comes next with 99\.35%, more than chance explains"),
        (LABELS, range(5), (range(6), 900), r"Ship a, .* 200 messages are too few to be sure of that \(p = 1\.000\)"),
        (LABELS, range(0), (range(30), 900), r"Ship a, with 100\.00% .* more than chance explains"),
        (LABELS, range(5), (range(5), 900), r"Ship b, with 97\.50% .* a comes next with 97\.50%"),
    ],
    ids=[
        "hardly worse",
        "less than twice as fast",
        "worse by more than chance",
        "perhaps more than a point worse",
        "much worse",
        "as good",
    ],
)
def test_verdict_takes_the_faster_one_only_if_it_is_hardly_worse(
    labels: np.ndarray, best: range, faster: tuple[range, float], expected: str
) -> None:
    contenders = [contender("a", best, 100, labels), contender("b", *faster, labels)]
    assert re.search(expected, comparison.verdict(comparison.compare(contenders, labels, classes=2)))


def test_verdict_on_one_classifier_says_that_it_is_the_only_one() -> None:
    lines = comparison.compare([contender("a", range(5))], LABELS, classes=2)
    assert comparison.verdict(lines) == "Ship a, with 97.50% of 200 messages right: there is nothing else to choose."


def test_lines_are_ranked_by_accuracy_and_measured_against_the_first() -> None:
    probabilities = np.stack([1 - LABELS, LABELS], axis=1)
    sure = Contender("sure", LABELS.copy(), probabilities, 1.0, 2.0, "a note")
    second, third = contender("second", range(1)), contender("third", range(4))
    lines = comparison.compare([third, second, sure], LABELS, classes=2)
    assert [line.contender.name for line in lines] == ["sure", "second", "third"]
    assert [line.accuracy for line in lines] == pytest.approx([1.0, 0.995, 0.98])
    assert lines[0].against_best is None
    assert lines[0].calibration_error == pytest.approx(0.0)
    assert lines[1].calibration_error is None
    assert lines[2].against_best == comparison.pair(sure, third, LABELS)
    rows = comparison.table(lines).splitlines()
    assert len(rows) == 5
    assert rows[2].startswith("| sure | 100.00% | 1.0000 | 0.0000 |")
    assert "| 4 / 0 | 0.1250 |" in rows[4]


def test_baselines_learn_and_are_chosen_on_validation() -> None:
    texts = [f"{'win cash prize' if i % 2 else 'see you at home'} {i}" for i in range(60)]
    labels = ["spam" if i % 2 else "ham" for i in range(60)]
    found = list(fit_baselines((texts[:40], labels[:40]), (texts[40:], labels[40:])))
    assert [baseline.val_accuracy for baseline in found] == [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]
    asked = comparison.of_baseline(found[1], texts[40:], ["spam", "ham"])
    assert asked.predicted.tolist() == [0 if label == "spam" else 1 for label in labels[40:]]
    assert asked.probabilities is not None
    assert (asked.probabilities.argmax(axis=1) == asked.predicted).all()
    assert comparison.of_baseline(found[3], texts, ["ham", "spam"]).probabilities is None
