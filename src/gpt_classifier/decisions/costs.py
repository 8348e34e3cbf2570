"""Decisions by expected cost."""

from collections.abc import Sequence

import numpy as np

from gpt_classifier.errors import OptionError, expect_number


def cost_matrix(given: Sequence[str], class_names: Sequence[str]) -> np.ndarray:
    """What `--cost TRUE:PREDICTED=COST …` says, `(C, C)`: rows true classes, columns predicted ones.

    What is right costs nothing, and a mistake that is not named costs 1.

    Args:
        given: such as `ham:spam=10`, a ham that is taken for spam.
        class_names: C names; they may have colons and equal signs.

    Raises:
        OptionError: it is something else.
    """
    place = {name: i for i, name in enumerate(class_names)}
    costs = 1.0 - np.eye(len(class_names))
    for one in given:
        pair, _, written = one.rpartition("=")
        splits = [(pair[:i], pair[i + 1 :]) for i, letter in enumerate(pair) if letter == ":"]
        known = [(true, predicted) for true, predicted in splits if true in place and predicted in place]
        if len(known) != 1 or known[0][0] == known[0][1]:
            names = ", ".join(class_names[:10]) + (", …" if len(class_names) > 10 else "")
            raise OptionError("--cost", f"TRUE:PREDICTED=COST with two of the classes {names}", one)
        costs[place[known[0][0]], place[known[0][1]]] = number_of("--cost", written)
    return costs


def number_of(option: str, written: str, high: float = 1e12) -> float:
    """A number of at least 0 as somebody wrote it.

    Raises:
        OptionError: it is none.
    """
    try:
        number: float | str = float(written)
    except ValueError:
        number = written
    expect_number(option, number, 0, high)
    return float(number)


def cheapest(probabilities: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """The class of the lowest expected cost (Elkan, "The Foundations of Cost-Sensitive Learning", 2001), `(N,)`.

    Args:
        probabilities: `(N, C)`, calibrated.
        costs: `(C, C)`, rows true, columns predicted. Of equal costs the more probable class is taken.
    """
    expected = probabilities.astype(np.float64) @ costs  # (N, C)
    ties = expected <= expected.min(axis=1, keepdims=True) + 1e-12
    return np.where(ties, probabilities, -1.0).argmax(axis=1)


def mean_cost(labels: np.ndarray, decided: np.ndarray, costs: np.ndarray) -> float:
    """What decisions cost on average, where the true classes are known."""
    return float(costs[labels, decided].mean())
