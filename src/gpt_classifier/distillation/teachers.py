"""Fine-tuned classifiers as teachers: their probabilities on texts, computed once and kept."""

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt_classifier.artifact import Artifact, open_artifact
from gpt_classifier.atomic import replacing
from gpt_classifier.data.sources.messages import in_order
from gpt_classifier.errors import UserError
from gpt_classifier.inference.predictor import Predictor
from gpt_classifier.paths import near
from gpt_classifier.spec import sha256_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Teacher:
    """One fine-tuned classifier.

    Args:
        artifact: opened.
        sha256: of its file, or of the files of its folder.
    """

    artifact: Artifact
    sha256: str

    @classmethod
    def open(cls, path: Path) -> "Teacher":
        """Open a checkpoint of a run, or a folder that `TextClassifier.save` wrote.

        Raises:
            UserError: it is not a whole artifact of this project.
        """
        return cls(open_artifact(path), sha256_of(path))

    @property
    def name(self) -> str:
        return near(self.artifact.path)

    @property
    def classes(self) -> list[str]:
        """C names, in the order of the columns of `probabilities`."""
        return in_order(self.artifact.spec.task["classes"])

    def probabilities(self, texts: Sequence[str], folder: Path) -> np.ndarray:
        """Calibrated probabilities of all classes, `(N, C)` float32.

        Args:
            texts: N of them, none empty.
            folder: where they are kept, and found again for the same texts and the same content of the classifier.
        """
        key = hashlib.sha256(self.sha256.encode())
        for text in texts:
            key.update(hashlib.sha256(text.encode()).digest())
        path = folder / f"{key.hexdigest()[:32]}.npy"
        kept = _kept(path, (len(texts), len(self.classes)))
        if kept is not None:
            log.info("teacher  %s: known from before", self.name)
            return kept
        began = time.perf_counter()
        predictor = Predictor.of(self.artifact)
        order = [predictor.classes.index(name) for name in self.classes]
        found = predictor.predict_proba(texts)[:, order]
        log.info("teacher  %s: %d texts in %.1f s", self.name, len(texts), time.perf_counter() - began)
        try:
            with replacing(path) as part, part.open("wb") as file:
                np.save(file, found)
        except UserError as error:
            log.warning("teacher  probabilities are not kept for later runs: %s", error)
        return found


def _kept(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """Probabilities of an earlier run; `None` without a whole file of them."""
    try:
        found = np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == shape and np.isfinite(found).all() else None


def open_teachers(paths: Sequence[Path]) -> list[Teacher]:
    """Teachers of the same classes.

    Raises:
        UserError: one can't be opened, or two have different classes.
    """
    teachers = [Teacher.open(path) for path in paths]
    first = teachers[0]
    for teacher in teachers[1:]:
        if teacher.classes != first.classes:
            raise UserError(
                f"--teacher: expected classifiers of the same classes, but {first.name} has "
                f"{_some(first.classes, teacher.classes)} and {teacher.name} has "
                f"{_some(teacher.classes, first.classes)}. Leave one of them out."
            )
    return teachers


def _some(names: list[str], others: list[str]) -> str:
    """Some classes, those first that the other classifier lacks."""
    shown = sorted(names, key=lambda name: name in others)
    return ", ".join(shown[:5]) + (", …" if len(shown) > 5 else "")


def mean_probabilities(teachers: Sequence[Teacher], texts: Sequence[str], folder: Path) -> np.ndarray:
    """The mean of what several teachers say, an ensemble: `(N, C)` float32; arguments as of `Teacher.probabilities`."""
    found = np.stack([teacher.probabilities(texts, folder) for teacher in teachers])  # (teachers, N, C)
    return found.mean(axis=0)
