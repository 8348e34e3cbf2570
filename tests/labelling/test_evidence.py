"""What is said of the classifier is what its answers support, and no more."""

import numpy as np
import pytest

from gpt_classifier.labelling.evidence import (
    FEW_RANDOM,
    FEW_TRAINED,
    Evidence,
    clopper_pearson,
    kappa,
    measure,
    paired_gain,
)


@pytest.mark.parametrize(
    ("right", "number", "low", "high"),
    [  # scipy.stats.beta.ppf([0.025, 0.975], …), as in the paper
        (95, 100, 0.8871651, 0.9835681),
        (10, 10, 0.6915029, 1.0),
        (0, 10, 0.0, 0.3084971),
        (1, 2, 0.0125791, 0.9874209),
        (1940, 2000, 0.9615511, 0.9770304),
    ],
)
def test_interval_is_that_of_clopper_and_pearson(right: int, number: int, low: float, high: float) -> None:
    found = clopper_pearson(right, number)
    assert found.value == right / number
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)


def test_interval_covers_the_truth_at_least_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    intervals = {right: clopper_pearson(right, 60) for right in range(61)}
    for truth in (0.8, 0.95, 0.99):
        drawn = random.binomial(60, truth, 2000)
        covered = [intervals[right].low <= truth <= intervals[right].high for right in drawn.tolist()]
        assert np.mean(covered) > 0.94


def test_gain_is_the_difference_of_accuracies_and_its_interval_covers_it() -> None:
    before = np.array([True] * 80 + [False] * 20)
    after = np.array([True] * 78 + [False] * 2 + [True] * 15 + [False] * 5)
    found = paired_gain(before, after)
    assert found.value == pytest.approx(after.mean() - before.mean())
    assert 0 < found.low < found.value < found.high <= 0.17


def test_no_difference_still_has_an_interval() -> None:
    same = np.ones(50, dtype=bool)
    found = paired_gain(same, same)
    assert found.value == 0
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 50), abs=1e-6) == -found.low


def test_kappa_of_the_example_in_text_books() -> None:
    first = np.array([0] * 25 + [1] * 25)
    second = np.array([0] * 20 + [1] * 5 + [0] * 10 + [1] * 15)
    assert kappa(first, second) == pytest.approx(0.4)
    assert kappa(first, first) == 1
    assert kappa(np.zeros(5, dtype=int), np.zeros(5, dtype=int)) == 1


def told(**changes: object) -> Evidence:
    labels = np.array([0] * 40 + [1] * 10)
    options: dict = {
        "truth": labels.tolist(),
        "predicted": np.where(np.arange(50) == 0, 1 - labels, labels),
        "half": np.where(np.arange(50) < 5, 1 - labels, labels),
        "agreements": [0.95, 0.97, 0.98],
        "trained": 120,
        "classes": ["ham", "spam"],
        "missing": [],
    }
    return measure(**{**options, **changes})


def test_evidence_is_of_the_random_share() -> None:
    found = told()
    assert found.accuracy is not None
    assert found.accuracy.value == 0.98
    assert found.majority == 0.8
    assert [(recall.name, recall.right, recall.number) for recall in found.recalls] == [
        ("ham", 39, 40),
        ("spam", 10, 10),
    ]
    assert found.gain is not None
    assert found.gain.value == pytest.approx(0.08)
    assert not found.stop
    assert found.advice().startswith("Go on")
    assert "+8.0 points" in found.advice()


def test_stopping_is_advised_when_the_last_fits_agree() -> None:
    found = told(agreements=[0.5, 0.99, 0.995, 0.99])
    assert found.stop
    assert found.advice().startswith("You can stop")
    assert not told(agreements=[0.995, 0.995]).stop  # two of three comparisons


def test_nothing_is_advised_from_little() -> None:
    few = {"truth": [0] * 5, "predicted": np.zeros(5, dtype=int), "half": None, "agreements": [1.0, 1.0, 1.0]}
    found = told(**few, trained=20, missing=["spam"])
    assert not found.stop
    assert found.advice() == (
        f"Too early to say: no text has the label spam yet, 20 of at least {FEW_TRAINED} labels to learn from, "
        f"5 of at least {FEW_RANDOM} random texts to measure on."
    )


def test_without_random_texts_there_is_no_accuracy() -> None:
    nothing = np.array([], dtype=int)
    found = told(truth=[], predicted=nothing, half=nothing)
    assert found.accuracy is None
    assert found.gain is None
    assert found.advice().startswith("Too early to say")
