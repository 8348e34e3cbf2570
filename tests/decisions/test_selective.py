"""Abstaining: the promise holds although the threshold was chosen by looking."""

from collections.abc import Callable

import numpy as np
import pytest

from gpt_classifier.decisions.rule import promising
from gpt_classifier.decisions.selective import Promise, at_most, choose, margins, needed, upper_bound
from gpt_classifier.errors import OptionError

POPULATION, SAMPLE, SPLITS = 20_000, 1500, 500


def test_bounds_are_those_of_clopper_and_pearson() -> None:
    stats = pytest.importorskip("scipy.stats")
    for errors, messages in ((0, 299), (3, 500), (40, 1000), (7, 8)):
        exact = stats.beta.ppf(0.95, errors + 1, messages - errors)
        assert upper_bound(errors, messages, 0.05) == pytest.approx(exact, rel=1e-6)
        assert at_most(errors, messages, 0.02) == pytest.approx(stats.binom.cdf(errors, messages, 0.02), rel=1e-9)
    assert upper_bound(5, 5, 0.05) == 1


def test_299_messages_without_an_error_are_needed_for_1_percent_with_95_percent_confidence() -> None:
    promise = Promise(0.01)
    assert promise.needed == 299
    sure = np.linspace(1, 9, 298)
    none = choose(sure, np.zeros(298, dtype=bool), promise)
    assert none.threshold is None
    assert none.why == "299 messages without an error are needed to promise it, and there are 298"
    enough = choose(np.append(sure, 5.0), np.zeros(299, dtype=bool), promise)
    assert enough.threshold == -np.inf
    assert (enough.answered, enough.errors) == (299, 0)
    assert enough.bound == pytest.approx(0.00997, abs=1e-5)
    assert Promise(0.01, tests=55).needed == needed(0.01, 0.05 / 55) == 697


def test_a_wrong_answer_among_the_surest_ends_a_short_sequence() -> None:
    sure, wrong = np.arange(400.0)[::-1], np.zeros(400, dtype=bool)
    wrong[3] = True
    found = choose(sure, wrong, Promise(0.01))
    assert found.threshold is None
    assert found.why == "of the 299 surest of 400 messages 1 are decided wrongly"


def test_what_is_answered_is_above_the_threshold_also_where_margins_are_equal() -> None:
    sure = np.concatenate([np.full(1000, 9.0), np.full(500, 1.0)])
    wrong = np.concatenate([np.zeros(1000, dtype=bool), np.arange(500) < 100])
    found = choose(sure, wrong, Promise(0.01))
    assert (sure > found.threshold).sum() == found.answered == 1000
    assert found.errors == 0


@pytest.mark.parametrize(
    ("rate", "confidence"), [(0, 0.95), (0.6, 0.95), (0.01, 0.3), (0.01, 1.0), (float("nan"), 0.9)]
)
def test_what_can_not_be_promised_is_refused(rate: float, confidence: float) -> None:
    with pytest.raises(OptionError, match=r"^(abstain|confidence): expected a number from"):
        Promise(rate, confidence)


def broken(risk: Callable[[np.ndarray], np.ndarray], chosen: Callable[..., float | None]) -> tuple[float, float]:
    """Part of the random splits in which the promise of 1 % is broken, and the part of texts that is answered.

    Args:
        risk: the probability of an error by how sure a text is, from 0 to 1.
        chosen: the threshold from how sure the messages of a split are, and which are wrong.
    """
    draw = np.random.default_rng(0)
    count, coverage = 0, []
    sure = np.sort(draw.random(POPULATION))
    wrong = draw.random(POPULATION) < risk(sure)
    for _ in range(SPLITS):
        order = draw.permutation(POPULATION)
        known, others = order[:SAMPLE], order[SAMPLE:]
        threshold = chosen(sure[known], wrong[known])
        if threshold is not None:
            answered = sure[others] > threshold
            count += bool(answered.any() and wrong[others][answered].mean() > 0.01)
            coverage.append(answered.mean())
    return count / SPLITS, float(np.mean(coverage)) if coverage else 0.0


RISKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "a little too high everywhere": lambda sure: np.full(len(sure), 0.0112),
    "falling": lambda sure: 0.2 * (1 - sure) ** 3,
    "two kinds of texts": lambda sure: np.where(sure > 0.5, 0.002, 0.05),
    "wrong labels among the surest": lambda sure: np.where(sure > 0.9, 0.03, np.where(sure > 0.4, 0.002, 0.1)),
}
NOISE = 3 * (0.05 * 0.95 / SPLITS) ** 0.5


@pytest.mark.parametrize("kind", RISKS)
def test_the_promise_is_broken_in_no_more_splits_than_it_says(kind: str) -> None:
    part, coverage = broken(RISKS[kind], lambda sure, wrong: choose(sure, wrong, Promise(0.01)).threshold)
    assert part <= 0.05 + NOISE
    if kind == "two kinds of texts":
        assert coverage > 0.4  # and is no empty one


def test_the_best_looking_of_all_thresholds_would_break_it() -> None:
    def naive(sure: np.ndarray, wrong: np.ndarray) -> float | None:
        order = np.argsort(-sure)
        errors = np.cumsum(wrong[order])
        kept = [n for n in range(299, len(sure), 10) if at_most(int(errors[n - 1]), n, 0.01) <= 0.05]
        return float(sure[order][kept[-1]]) if kept else None

    part, _ = broken(RISKS["a little too high everywhere"], naive)
    assert part > 0.05 + NOISE


def test_classes_are_promised_together_and_one_that_can_not_be_is_never_answered() -> None:
    labels = np.concatenate([np.zeros(2000, dtype=int), np.ones(200, dtype=int)])
    probabilities = np.stack([1 - labels * 0.8 - 0.1, labels * 0.8 + 0.1], axis=1)
    rule, chosen = promising(probabilities, labels, Promise(0.01), None, by_class=True)
    assert chosen[0].threshold == -np.inf
    assert chosen[1].why == "368 messages without an error are needed to promise it, and there are 200"
    assert rule.answered(probabilities).tolist() == (labels == 0).tolist()
    assert promising(probabilities, labels, Promise(0.01), None, by_class=False)[0].answered(probabilities).all()


def test_probabilities_that_are_1_as_written_are_told_apart_by_the_others() -> None:
    probabilities = np.array([[1.0, 1e-9], [1.0, 1e-12], [0.5, 0.5]], dtype=np.float32)
    found = margins(probabilities, np.array([0, 0, 1]))
    assert found[1] > found[0] > found[2]
    assert found[2] == pytest.approx(0)
