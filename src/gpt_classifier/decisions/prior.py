"""Probabilities where classes are more or less frequent than in training."""

from collections.abc import Sequence

import numpy as np

from gpt_classifier.decisions.costs import number_of
from gpt_classifier.errors import OptionError


def prior_of(given: Sequence[str], class_names: Sequence[str], trained: np.ndarray) -> np.ndarray:
    """What `--prior CLASS=PART …` says, `(C,)`.

    Args:
        given: such as `spam=0.13`. Classes that are not named share the rest, in proportion to training.
        class_names: C names.
        trained: `(C,)` the part of each class in training.

    Raises:
        OptionError: it is something else, or the parts do not add up to 1.
    """
    place = {name: i for i, name in enumerate(class_names)}
    parts = np.full(len(class_names), np.nan)
    for one in given:
        name, _, written = one.rpartition("=")
        if name not in place:
            names = ", ".join(class_names[:10]) + (", …" if len(class_names) > 10 else "")
            raise OptionError("--prior", f"CLASS=PART with one of the classes {names}", one)
        parts[place[name]] = number_of("--prior", written, 1)
    unnamed = np.isnan(parts)
    rest = 1 - parts[~unnamed].sum()
    if rest < -1e-9 or (not unnamed.any() and abs(rest) > 1e-6):
        raise OptionError("--prior", "parts that add up to 1", f"{' '.join(given)}, which is {1 - rest:g}")
    of_training = trained[unnamed].sum()
    if unnamed.any():
        parts[unnamed] = max(rest, 0) * (trained[unnamed] / of_training if of_training else 1 / unnamed.sum())
    return parts


def reweighted(probabilities: np.ndarray, trained: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Probabilities `(N, C)` float32 for other frequencies of the classes, where texts of a class are as in training.

    Each is multiplied by how many times as frequent its class is, and all are divided by their sum (Saerens, Latinne
    and Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori Probabilities", 2002).

    Args:
        probabilities: `(N, C)`, calibrated.
        trained: `(C,)` part of each class in training.
        prior: `(C,)` part of each class where the texts come from.
    """
    ratio = np.divide(prior, trained, out=np.zeros(len(prior)), where=trained > 0)
    found = probabilities.astype(np.float64) * ratio
    total = found.sum(axis=1, keepdims=True)
    return np.where(total > 0, found / np.maximum(total, 1e-300), probabilities).astype(np.float32)
