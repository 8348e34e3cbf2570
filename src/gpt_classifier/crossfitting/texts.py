"""Cross-fitting from Python."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lightning.pytorch.utilities.seed import isolate_rng
from omegaconf import open_dict

from gpt_classifier.crossfitting.out_of_fold import OutOfFold, Spread
from gpt_classifier.crossfitting.run import crossfit_messages
from gpt_classifier.errors import expect_number
from gpt_classifier.evaluation.metrics import calibration_error
from gpt_classifier.inference.fitting import own_parameters, prepared
from gpt_classifier.inference.text_classifier import TextClassifier
from gpt_classifier.tables.texts import list_of


@dataclass(frozen=True)
class CrossFit:
    """Answers to N texts, each by a model that was not trained on it.

    Args:
        classes: `(C,)` the labels, sorted, as they came.
        model: the answers of the fine-tuned models, columns in the order of `classes`.
        baselines: those of scikit-learn's classifiers on the same folds, by name.
    """

    classes: np.ndarray
    model: OutOfFold
    baselines: dict[str, OutOfFold]

    @property
    def probabilities(self) -> np.ndarray:
        """`(N, C)` float32, rows in the order of the texts."""
        return self.model.probabilities

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each text, `(N,)`."""
        return self.classes[self.model.predictions.predicted]

    @property
    def fold(self) -> np.ndarray:
        """The fold that each text is in, `(N,)`, from 0."""
        return self.model.fold

    @property
    def accuracy(self) -> Spread:
        """Mean and standard deviation over the folds."""
        return self.model.spread("accuracy")

    @property
    def macro_f1(self) -> Spread:
        """Mean and standard deviation over the folds."""
        return self.model.spread("macro_f1")

    @property
    def calibration_error(self) -> float:
        """Expected calibration error of all answers (Guo et al., 2017)."""
        return calibration_error(self.model.predictions)


def crossfit(
    texts: Sequence[str],
    labels: Sequence[Any],
    folds: int = 5,
    groups: Sequence[Any] | None = None,
    classifier: TextClassifier | None = None,
    baselines: Sequence[str] = (),
    split_seed: int = 123,
) -> CrossFit:
    """Predict every text by a classifier that was not trained on it.

    Folds are stratified by class. Near-duplicates (equal but for case, digits and punctuation) and texts of one group
    are in one fold. Activations of frozen blocks are computed once for all folds.

    Args:
        texts: N non-empty strings, as `TextClassifier.fit` takes them.
        labels: their N classes.
        folds: number of them, at least 2.
        groups: what each text belongs to, such as a customer; `None` for nothing.
        classifier: whose parameters each fold is fitted with, as in scikit-learn's `cross_val_predict`; it is not
            fitted itself. `None` for `TextClassifier()`.
        baselines: scikit-learn's classifiers beside it: `words`, `characters`, `words_and_characters`,
            `logistic_regression`, `naive_bayes`, `linear` for the best of these, …
        split_seed: of the folds.

    Raises:
        UserError: texts, labels or parameters that can't be trained with.
    """
    params = (classifier or TextClassifier()).get_params()
    expect_number("folds", folds, 2, whole=True)
    given = list_of("texts", texts), list_of("labels", labels), None if groups is None else list_of("groups", groups)
    with own_parameters({"data.folds": "folds"}):
        config, context, classes = prepared(params, given[0], given[1], groups=given[2])
        with open_dict(config):
            config.baselines = list(baselines)
            config.data.split, config.data.folds, config.data.split_seed = "grouped", folds, split_seed
        with isolate_rng():
            model, *others = crossfit_messages(config, context)
    names = [str(label) for label in classes]
    found = {name: one.ordered(names) for name, one in zip(baselines, others, strict=True)}
    return CrossFit(classes, model.ordered(names), found)
