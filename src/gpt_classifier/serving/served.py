"""The classifier that a worker answers with."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpt_classifier.checkpoints import run_folder
from gpt_classifier.errors import UserError
from gpt_classifier.evaluation.profile import Profile
from gpt_classifier.inference.opening import open_predictor
from gpt_classifier.inference.text_predictor import TextPredictor
from gpt_classifier.serving.settings import Settings
from gpt_classifier.spec import sha256_of
from gpt_classifier.tables.texts import why_no_text


class Refused(Exception):
    """A request that can't be answered.

    Args:
        status: of HTTP.
        message: what was expected and what was found, without the text itself.
        retry_after: seconds, where it may be answered later.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after


@dataclass(frozen=True)
class Answer:
    """What is said of the texts of a request.

    Args:
        probabilities: `(N, C)` float32.
        tokens: `(N,)` that were read of each.
        truncated: whether something of each text was left out.
        served: by which classifier.
    """

    probabilities: np.ndarray
    tokens: np.ndarray
    truncated: list[bool]
    served: "Served"


@dataclass(frozen=True)
class Served:
    """A classifier that is ready to answer.

    Args:
        predictor: it.
        name: of its run or folder.
        version: the beginning of the SHA-256 of its files.
        labels: C class names, or whole numbers if these they are.
        profile: of the validation messages, if it is known.
        since: when it was opened, in seconds since 1970.
    """

    predictor: TextPredictor
    name: str
    version: str
    labels: list[Any]
    profile: Profile | None
    since: float

    @classmethod
    def open(cls, path: Path, settings: Settings) -> "Served":
        """Open a checkpoint, a bundle or an export to ONNX, and ask it once, which chooses kernels.

        Raises:
            UserError: it can't be opened.
        """
        predictor = open_predictor(path, settings.weights, settings.verify, settings.precision)
        predictor.predict_proba(["a"])
        sha256 = sha256_of(path)
        return cls(
            predictor,
            name=path.name if path.is_dir() else run_folder(path).name,
            version=sha256[:12],
            labels=list(map(int, predictor.classes)) if predictor.spec.whole_numbers else predictor.classes,
            profile=Profile.read(path, sha256),
            since=time.time(),
        )

    def answer(self, requests: Sequence[Sequence[str]], max_tokens: int) -> list[Answer | Exception]:
        """Answer several requests together.

        Args:
            requests: texts of each, none empty.
            max_tokens: of a request.

        Returns:
            For each its answer, or why there is none; a request that can't be answered holds up no other.
        """
        read = [self._rows(texts, max_tokens) for texts in requests]
        together: list[str] = []
        rows: list[np.ndarray] = []
        for texts, found in zip(requests, read, strict=True):
            if not isinstance(found, Exception):
                together += texts
                rows += found
        probabilities = self.predictor.probabilities(self.predictor.logits(together, rows))
        answers: list[Answer | Exception] = []
        start = 0
        for texts, found in zip(requests, read, strict=True):
            if isinstance(found, Exception):
                answers.append(found)
                continue
            stop = start + len(found)
            tokens = np.array([len(row) for row in found])
            answers.append(Answer(probabilities[start:stop], tokens, self.predictor.cut(texts, found), self))
            start = stop
        return answers

    def _rows(self, texts: Sequence[str], max_tokens: int) -> list[np.ndarray] | Exception:
        try:
            for i, text in enumerate(texts):
                if reason := why_no_text(text):
                    raise Refused(422, f"text {i + 1} of {len(texts)}: {reason}")
                if reason := self.predictor.why_too_long(text):
                    raise Refused(422, f"text {i + 1} of {len(texts)}: {reason}")
            rows = self.predictor.token_rows(texts)
            if (tokens := sum(map(len, rows))) > max_tokens:
                raise Refused(422, f"expected texts of at most {max_tokens:,} tokens in all, but they have {tokens:,}")
        except UserError as error:
            return Refused(422, str(error))
        except Exception as error:  # whatever it is, it is of this request alone
            return error
        return rows
