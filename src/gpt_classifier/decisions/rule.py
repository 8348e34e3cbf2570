"""What is decided about texts whose probabilities are known."""

from dataclasses import dataclass

import numpy as np

from gpt_classifier.decisions.costs import cheapest
from gpt_classifier.decisions.selective import Chosen, Promise, choose, margins


@dataclass(frozen=True)
class Rule:
    """From probabilities to a class, or to none.

    Args:
        costs: `(C, C)` of mistakes, rows true, columns predicted; `None` decides for the most probable class.
        thresholds: `(C,)` by decided class: texts with a margin above it are answered; `None` answers all.
    """

    costs: np.ndarray | None = None
    thresholds: np.ndarray | None = None

    def decided(self, probabilities: np.ndarray) -> np.ndarray:
        """Class ids `(N,)` from probabilities `(N, C)`."""
        return probabilities.argmax(axis=1) if self.costs is None else cheapest(probabilities, self.costs)

    def answered(self, probabilities: np.ndarray) -> np.ndarray:
        """Whether each of N texts is sure enough to be answered, `(N,)`."""
        decided = self.decided(probabilities)
        if self.thresholds is None:
            return np.ones(len(decided), dtype=bool)
        return margins(probabilities, decided) > self.thresholds[decided]


def promising(
    probabilities: np.ndarray, labels: np.ndarray, promise: Promise, costs: np.ndarray | None, by_class: bool
) -> tuple[Rule, dict[int, Chosen]]:
    """A rule that keeps a promise.

    Args:
        probabilities: `(N, C)` of messages that neither trained nor chose the classifier.
        labels: `(N,)` their class ids.
        promise: about the errors among what is answered.
        costs: as of `Rule`.
        by_class: promise it of the texts of each decided class, all of these together with the confidence. A class of
            which it can't be promised is never answered.

    Returns:
        The rule, and what was chosen, by class; of all together under -1.
    """
    classes = probabilities.shape[1]
    decided = Rule(costs).decided(probabilities)
    sure, wrong = margins(probabilities, decided), decided != labels
    if not by_class:
        chosen = {-1: choose(sure, wrong, promise)}
        found = chosen[-1].threshold
        return Rule(costs, np.full(classes, np.inf if found is None else found)), chosen
    own = Promise(promise.rate, promise.confidence, promise.tests * classes)
    chosen = {i: choose(sure[decided == i], wrong[decided == i], own) for i in range(classes)}
    found_of = [np.inf if one.threshold is None else one.threshold for one in chosen.values()]
    return Rule(costs, np.array(found_of)), chosen
