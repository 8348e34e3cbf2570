"""What validation messages were like, as numbers that can be kept: what others are compared with while it serves."""

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gpt_classifier.atomic import write_json
from gpt_classifier.inference.text_predictor import TextPredictor
from gpt_classifier.spec import sha256_of

MOST_MESSAGES = 500  # that are asked: a second for short messages and a small model, a minute or two for long ones
BINS = 10  # of lengths and confidence, with as many validation messages each


@dataclass(frozen=True)
class Shares:
    """How values are distributed.

    Args:
        edges: between bins, ascending; a value at an edge is in the bin above it.
        shares: of values in each bin, one more than edges.
    """

    edges: list[float]
    shares: list[float]

    @classmethod
    def of(cls, values: np.ndarray) -> "Shares":
        """Bins with as many values each, fewer of them where many values are equal."""
        edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1], method="higher"))
        return cls(edges.tolist(), shares_of(np.searchsorted(edges, values, "right"), len(edges) + 1))


@dataclass(frozen=True)
class Profile:
    """A summary of validation messages and of what a classifier says of them, without any text.

    Args:
        sha256: of the classifier's files.
        messages: how many there were.
        tokens: of each, as they are read.
        confidence: probability of the predicted class.
        classes: share of each predicted class, in the order of the classifier's.
        unknown_bytes: share of their bytes, in UTF-8, that are of characters which no training message has.
        characters: of the training messages.
    """

    sha256: str
    messages: int
    tokens: Shares
    confidence: Shares
    classes: list[float]
    unknown_bytes: float
    characters: str

    @classmethod
    def read(cls, checkpoint: Path, sha256: str) -> "Profile | None":
        """What `write` left beside a checkpoint or in a bundle; `None` if there is none of this classifier."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            values = json.loads(_place(checkpoint).read_text(encoding="utf-8"))
            shares = {name: Shares(**values[name]) for name in ("tokens", "confidence")}
            found = cls(**{**values, **shares})
            return found if found.sha256 == sha256 else None
        return None

    def write(self, checkpoint: Path) -> None:
        """Keep it beside a checkpoint, or in a bundle.

        Raises:
            UserError: it can't be written.
        """
        write_json(_place(checkpoint), asdict(self))

    @classmethod
    def measure(cls, predictor: TextPredictor, checkpoint: Path, sha256: str) -> "Profile | None":
        """Ask a classifier for the validation messages of its run, every n-th of many.

        Args:
            predictor: of the checkpoint.
            checkpoint: in the folder of its run.
            sha256: of its files.

        Returns:
            `None` where the messages of the run are not known.
        """
        from gpt_classifier.evaluation.messages import run_splits_if_there  # with torch and pandas, as reading does not

        frame = run_splits_if_there(checkpoint)
        if frame is None:
            return None
        texts = frame.loc[frame["split"] == "val", "text"].tolist()
        texts = [text for text in texts[:: -(-len(texts) // MOST_MESSAGES) or 1] if not predictor.why_too_long(text)]
        if not texts:
            return None
        rows = predictor.token_rows(texts)
        probabilities = predictor.probabilities(predictor.logits(texts, rows))
        characters = "".join(sorted(set().union(*frame.loc[frame["split"] == "train", "text"])))
        unknown = np.array([unknown_bytes(text, frozenset(characters)) for text in texts]).sum(axis=0)
        return cls(
            sha256,
            len(texts),
            Shares.of(np.array([len(row) for row in rows])),
            Shares.of(probabilities.max(axis=1)),
            shares_of(probabilities.argmax(axis=1), len(predictor.classes)),
            float(unknown[0] / unknown[1]),
            characters,
        )


def keep_profile(opened: Callable[[Path], TextPredictor], checkpoint: Path | None, folder: Path) -> None:
    """Keep a profile in a folder that a classifier was exported to, where the messages of its run are known.

    Args:
        opened: opens that folder.
        checkpoint: that it comes from, in the folder of its run; `None` if it comes from none.
        folder: whole otherwise.

    Raises:
        UserError: it can't be written.
    """
    if checkpoint is None or checkpoint.is_dir():
        return
    profile = Profile.measure(opened(folder), checkpoint, sha256_of(folder))
    if profile is not None:
        profile.write(folder)


def unknown_bytes(text: str, characters: frozenset[str]) -> tuple[int, int]:
    """How many bytes of a text, in UTF-8, are of characters other than these, and how many it has in all."""
    other = "".join(character for character in text if character not in characters)
    return len(other.encode()), len(text.encode())


def shares_of(places: np.ndarray, number: int) -> list[float]:
    """The share of values in each of a number of places."""
    return (np.bincount(places, minlength=number) / max(len(places), 1)).tolist()


def stability_index(recent: Sequence[float], reference: Sequence[float], messages: int) -> float:
    """The population stability index: the sum of (p - q) ln (p / q) over bins.

    Below 0.1 two distributions are usually taken for alike, and above 0.25 for different. Each bin is given half a
    message more, so that empty ones are finite.

    Args:
        recent: shares of bins.
        reference: the same of other messages.
        messages: of the fewer of both.
    """
    more = 0.5 / messages
    p, q = (np.array(shares) + more for shares in (recent, reference))
    p, q = p / p.sum(), q / q.sum()
    return float(((p - q) * np.log(p / q)).sum())


def _place(checkpoint: Path) -> Path:
    return checkpoint / "profile.json" if checkpoint.is_dir() else checkpoint.with_suffix(".profile.json")
