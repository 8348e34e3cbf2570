"""Decisions by expected cost, and probabilities for other frequencies of the classes."""

import numpy as np
import pytest

from gpt_classifier.decisions.costs import cheapest, cost_matrix, mean_cost
from gpt_classifier.decisions.prior import prior_of, reweighted
from gpt_classifier.errors import OptionError

CLASSES = ["ham", "spam", "a:b=c"]


def test_costs_are_of_true_and_predicted_classes() -> None:
    costs = cost_matrix(["ham:spam=10", "ham:a:b=c=2.5", "a:b=c:ham=0"], CLASSES)
    assert costs.tolist() == [[0, 10, 2.5], [1, 0, 1], [0, 1, 0]]


@pytest.mark.parametrize("given", ["ham:ham=1", "ham=1", "ham:eggs=1", "ham:spam=-1", "ham:spam=many", "ham:spam=nan"])
def test_other_costs_are_refused(given: str) -> None:
    with pytest.raises(OptionError, match=r"^--cost: expected"):
        cost_matrix([given], CLASSES)


def test_the_cheapest_decision_moves_the_threshold_to_where_both_cost_alike() -> None:
    costs = cost_matrix(["ham:spam=10", "spam:ham=1"], ["ham", "spam"])
    spam = np.array([0.5, 0.90, 0.92])  # 10 (1 - p) = p at 10/11
    probabilities = np.stack([1 - spam, spam], axis=1)
    assert cheapest(probabilities, costs).tolist() == [0, 0, 1]
    assert cheapest(np.array([[0.5, 0.5], [0.4, 0.6]]), 1 - np.eye(2)).tolist() == [0, 1]
    assert mean_cost(np.array([0, 1, 1]), np.array([1, 1, 0]), costs) == pytest.approx(11 / 3)


def test_a_balanced_classifier_is_right_about_a_world_that_is_not() -> None:
    """Texts of one of two words; in training classes are as frequent, in the world spam is one of ten."""
    likelihood = np.array([[0.8, 0.2], [0.3, 0.7]])  # of each word, by class
    trained, world = np.array([0.5, 0.5]), np.array([0.9, 0.1])
    balanced = (likelihood.T * trained) / (likelihood.T * trained).sum(axis=1, keepdims=True)
    exact = (likelihood.T * world) / (likelihood.T * world).sum(axis=1, keepdims=True)
    prior = prior_of(["spam=0.1"], ["ham", "spam"], trained)
    np.testing.assert_allclose(reweighted(balanced, trained, prior), exact, rtol=1e-6)


def test_classes_that_are_not_named_share_the_rest_as_in_training() -> None:
    trained = np.array([0.6, 0.1, 0.3])
    np.testing.assert_allclose(prior_of(["spam=0.55"], CLASSES, trained), [0.3, 0.55, 0.15])
    np.testing.assert_allclose(prior_of(["a:b=c=0.5", "ham=0.5"], CLASSES, trained), [0.5, 0, 0.5])


@pytest.mark.parametrize(
    "given", [["eggs=0.1"], ["ham=1.5"], ["ham=0.9", "spam=0.9"], ["ham=0.1", "spam=0.1", "a:b=c=0.1"], ["ham=few"]]
)
def test_other_priors_are_refused(given: list[str]) -> None:
    with pytest.raises(OptionError, match=r"^--prior: expected"):
        prior_of(given, CLASSES, np.ones(3) / 3)
