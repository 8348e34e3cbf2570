"""How much each of two models counts."""

import numpy as np
import pytest

from gpt_classifier.stacking.scales import fit_scales, loss

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 3, 2000)


def model(noise: float, scale: float = 1.0) -> np.ndarray:
    """Logits that are right the more often the less noise there is."""
    return scale * (np.eye(3)[LABELS] + noise * RANDOM.standard_normal((len(LABELS), 3)))


def test_two_models_that_are_equally_good_count_alike_whatever_their_scales() -> None:
    first, second = fit_scales(model(1.0), model(1.0, scale=20.0), LABELS)
    assert first == pytest.approx(20 * second, rel=0.15)


def test_a_model_that_knows_nothing_counts_next_to_nothing() -> None:
    good = model(0.7)
    first, second = fit_scales(good, RANDOM.standard_normal(good.shape), LABELS)
    assert second < 0.1 * first


def test_both_have_a_lower_loss_than_either_and_are_calibrated() -> None:
    parts = model(1.0), model(1.0, scale=5.0)
    scales = fit_scales(*parts, LABELS)
    joined = scales[0] * parts[0] + scales[1] * parts[1]
    assert loss(joined, LABELS) < min(loss(fit * part, LABELS) for part in parts for fit in np.linspace(0.1, 3, 30))
    assert loss(joined, LABELS) == pytest.approx(
        min(loss(joined * t, LABELS) for t in np.linspace(0.5, 2, 31)), abs=1e-3
    )


def test_few_messages_hardly_move_the_weights_from_equal_ones() -> None:
    good, bad = model(1.0)[:20], model(1.0)[:20]
    first, second = fit_scales(good, bad, LABELS[:20])
    assert 0.3 < first / second < 3
