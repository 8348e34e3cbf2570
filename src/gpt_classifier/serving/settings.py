"""What a person chooses of a server. Nothing here takes long to import."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gpt_classifier.errors import OptionError, expect_number

API_KEY = "GPT_CLASSIFIER_API_KEY"
"""The environment variable: requests must have it as `Authorization: Bearer KEY`."""

SHORTEST_KEY = 16  # characters, below which a key can be guessed


def nothing() -> None:
    """What most checkpoints need."""


@dataclass(frozen=True)
class Limits:
    """Up to where a request is answered.

    Args:
        max_body: bytes of a request's body.
        max_texts: of a request.
        max_characters: of all texts of a request.
        max_tokens: that the model reads of all texts of a request.
        max_waiting: texts in each worker that were taken and not answered.
        timeout: seconds within which a body must have come, and then an answer.

    Raises:
        OptionError: a number is out of its range.
    """

    max_body: int = 4_000_000
    max_texts: int = 1_000
    max_characters: int = 1_000_000
    max_tokens: int = 200_000
    max_waiting: int = 4_000
    timeout: float = 30.0

    def __post_init__(self) -> None:
        for name in ("max_body", "max_texts", "max_characters", "max_tokens", "max_waiting"):
            expect_number(name, getattr(self, name), 1, whole=True)
        expect_number("timeout", self.timeout, 0.1)
        if self.max_waiting < self.max_texts:
            raise OptionError(
                "max_waiting",
                f"at least {self.max_texts}, as many as a request may have",
                self.max_waiting,
            )


@dataclass(frozen=True)
class Settings:
    """A server.

    Args:
        checkpoint: as `--checkpoint` names it; it is looked up again when the server is asked to reload.
        path: where that is.
        outputs: the folder of runs, for `latest`.
        weights: the pretrained weights that it builds on, if they were moved.
        verify: read all of these to check them.
        precision: of `Predictor`.
        prepare: what a process does before it opens the checkpoint, such as importing a module with its pooling.
        limits: of requests.
        workers: processes, each with a model of its own.
        log_texts: write the texts of requests into the log.
        api_key: that requests must have; empty for none.
        supervised: SIGHUP makes this process reload the checkpoint.
    """

    checkpoint: str
    path: Path
    outputs: Path = Path("outputs")
    weights: Path | None = None
    verify: bool = False
    precision: str = "auto"
    prepare: Callable[[], None] = nothing
    limits: Limits = field(default_factory=Limits)
    workers: int = 1
    log_texts: bool = False
    api_key: str = field(default="", repr=False)
    supervised: bool = False

    def __post_init__(self) -> None:
        expect_number("workers", self.workers, 1, 256, whole=True)
        if self.api_key and (len(self.api_key) < SHORTEST_KEY or not self.api_key.isascii()):
            raise OptionError(
                API_KEY, f"at least {SHORTEST_KEY} ASCII characters", f"one of {len(self.api_key)} characters"
            )
