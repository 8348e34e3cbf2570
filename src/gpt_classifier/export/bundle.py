"""A folder of our own, which needs nothing beside it."""

from pathlib import Path

from gpt_classifier.evaluation.profile import keep_profile
from gpt_classifier.inference.predictor import Predictor
from gpt_classifier.inference.text_classifier import TextClassifier


def export(classifier: TextClassifier, folder: Path) -> None:
    """Write what `TextClassifier.load` opens, and beside it what its validation messages were like, if that is known.

    Args:
        classifier: to write.
        folder: to make; one that `TextClassifier.save` wrote is replaced.

    Raises:
        UserError: it can't be written.
    """
    classifier.save(folder)
    keep_profile(Predictor.open, classifier.path, folder)
