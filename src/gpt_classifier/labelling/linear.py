"""The classifier that learns while texts are labelled: what every fine-tuning here begins from, fitted in a moment."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpt_classifier.labelling.features import Features, compute_features
from gpt_classifier.models.linear_probe import Fit, Seen, probe
from gpt_classifier.tasks import SingleLabel


@dataclass(frozen=True)
class Linear:
    """A linear probe of frozen activations and TF-IDF of the tokens.

    Args:
        fit: its weights.
        idf: `(V,)` by the texts that it was fitted to.
    """

    fit: Fit
    idf: Tensor

    def probabilities(self, features: Features) -> np.ndarray:
        """Of all classes, `(N, C)` float32, not calibrated."""
        bags = features.bags(self.idf)
        logits = self.fit.logits(Seen(features.pooled, bags, torch.empty(0), None))
        return logits.softmax(dim=1).numpy()


def fit_linear(features: Features, texts: Sequence[int], labels: Sequence[int], classes: list[str]) -> Linear:
    """Fit to some of the texts.

    The penalty is the one that `models.linear_probe` takes where there is no validation.

    Args:
        features: of all texts.
        texts: places of n of them, at least one.
        labels: the places of their classes.
        classes: C names.
    """
    chosen = np.asarray(texts)
    idf, ngrams = features.weigh(chosen)
    places = torch.from_numpy(chosen)
    bags = features.bags(idf).only(places)
    seen = Seen(features.pooled[places], bags, torch.tensor(labels), None)
    return Linear(probe(seen, None, SingleLabel(classes), ngrams), idf)


class LinearModel:
    """What learns in a labelling session.

    Args:
        params: those of `TextClassifier`, of which the model and how texts are read count here.
        texts: N of them.
        classes: C names.
    """

    def __init__(self, params: Mapping[str, Any], texts: list[str], classes: list[str]) -> None:
        self.params, self.texts, self.classes = params, texts, classes
        self.features: Features | None = None

    def prepare(self, progress: Callable[[float], None], stopped: Callable[[], bool]) -> np.ndarray:
        self.features = compute_features(self.params, self.texts, progress, stopped)
        return standardised(self.features.pooled.numpy())

    def probabilities(self, texts: Sequence[int], labels: Sequence[int]) -> np.ndarray:
        assert self.features is not None, "prepare comes first"
        return fit_linear(self.features, texts, labels, self.classes).probabilities(self.features)


def standardised(points: np.ndarray) -> np.ndarray:
    """Points `(N, D)` with each column of mean 0 and the same deviation, of length 1 on average."""
    deviations = points.std(axis=0)
    return (points - points.mean(axis=0)) / np.where(deviations > 0, deviations, 1.0) / points.shape[1] ** 0.5
