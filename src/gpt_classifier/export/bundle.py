"""A folder of our own, which needs nothing beside it."""

from pathlib import Path

from gpt_classifier.artifact import sha256_of
from gpt_classifier.evaluation.profile import Profile
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
    if classifier.path is not None and not classifier.path.is_dir():
        profile = Profile.measure(Predictor.open(folder, device="cpu"), classifier.path, sha256_of(folder))
        if profile is not None:
            profile.write(folder)
