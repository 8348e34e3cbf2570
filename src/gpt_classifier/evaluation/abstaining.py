"""What promises and costs come to on messages with known labels, for the page."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gpt_classifier.decisions.costs import cheapest, mean_cost
from gpt_classifier.decisions.rule import promising
from gpt_classifier.decisions.selective import Promise
from gpt_classifier.evaluation.metrics import Predictions
from gpt_classifier.models.linear_probe import STRENGTHS

RATES = (0.05, 0.02, 0.01, 0.005)
"""Parts of what is answered that may be wrong."""


def candidates(settings: Mapping[str, Any]) -> int:
    """How many models a run's validation messages chose among: epochs, and penalties of the linear probe before them.

    Args:
        settings: of the run; what is not there is taken as the recipe for data of your own has it at most.
    """
    epochs = int(settings.get("trainer.max_epochs", 10))
    return (epochs + 1) * len(STRENGTHS) if settings.get("head_init", "linear_probe") == "linear_probe" else epochs


def promises(validation: Predictions, reported: Predictions, temperature: float, tests: int) -> list[dict[str, Any]]:
    """For each of `RATES` how much is answered.

    Args:
        validation: messages that the thresholds are chosen on.
        reported: other messages.
        temperature: of the probabilities.
        tests: how many models the validation messages chose among.

    Returns:
        `rate`; `probability`, above which is answered, or `None`, and `why` it is; and of the reported messages the
        `answered` part, and the part of these that is `wrong`.
    """
    rows = []
    for rate in RATES:
        promise = Promise(rate, tests=tests)
        rule, chosen = promising(validation.probabilities(temperature), validation.labels, promise, None, False)
        answered = rule.answered(reported.probabilities(temperature))
        wrong = float((~reported.right)[answered].mean()) if answered.any() else 0.0
        probability = None if chosen[-1].threshold is None else chosen[-1].probability
        row = {"rate": rate, "probability": probability, "answered": float(answered.mean()), "wrong": wrong}
        rows.append(row | {"why": chosen[-1].why})
    return rows


def costs_of(reported: Predictions, temperature: float, costs: np.ndarray) -> dict[str, Any]:
    """What decisions for the most probable class cost, and what those by expected cost do.

    Args:
        reported: messages.
        temperature: of the probabilities.
        costs: `(C, C)`, rows true classes, columns predicted ones.

    Returns:
        `most_probable` and `expected_cost`, the mean cost of a message; and how many are decided otherwise, `changed`.
    """
    decided = cheapest(reported.probabilities(temperature), costs)
    return {
        "most_probable": mean_cost(reported.labels, reported.predicted, costs),
        "expected_cost": mean_cost(reported.labels, decided, costs),
        "changed": int((decided != reported.predicted).sum()),
    }
