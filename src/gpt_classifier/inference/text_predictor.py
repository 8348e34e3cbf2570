"""Texts in, logits and probabilities out, whatever computes the logits of a batch: without torch."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpt_classifier.errors import UserError
from gpt_classifier.ngrams import NGrams
from gpt_classifier.spec import Spec
from gpt_classifier.tables.texts import list_of
from gpt_classifier.tokenizers import tokenizer_from_state
from gpt_classifier.tokenizers.cutting import TextTooLong, Windows, beginning
from gpt_classifier.tokenizers.padding import evaluation_parts, padded

PADDING = 64
"""Of the tokens of a full batch, the part that costs about as much as another pass: 64 on a CPU."""


class TextPredictor(ABC):
    """A fine-tuned classifier without anything of its training. A subclass computes logits and probabilities.

    Args:
        spec: what prediction needs beside weights.
        windows: how a long text is read; `None` where a text is read as a whole.
        reads_padding: whether logits depend on how far a row was padded.
        budget: tokens of a batch of rows of like length, padding included.
        ngrams: a linear model whose margins are joined with the logits of every text; `None` for none.
        skips_padding: whether padding takes no time, so that rows of a batch may have any lengths.

    Attributes:
        classes: C names, sorted: the order of the columns of everything here.
        temperature: logits are divided by it for probabilities; 1 unless it was calibrated.
        note: what every report on its data must say, or an empty string.
        precision: of products: `32-true`, `bf16-mixed`, or `int8`.
        device_name: where it computes.
    """

    precision: str
    device_name = "cpu"

    def __init__(
        self,
        spec: Spec,
        windows: Windows | None,
        reads_padding: bool,
        budget: int,
        ngrams: NGrams | None = None,
        skips_padding: bool = False,
    ) -> None:
        self.spec = spec
        self.tokenizer = tokenizer_from_state(spec.tokenizer)
        names = list(spec.task["classes"])
        self.classes = sorted(names)
        self.temperature = spec.temperature
        self.note = spec.note
        self.ngrams = ngrams
        self._order = [names.index(name) for name in self.classes]
        self._windows = windows
        self._alone = reads_padding and spec.pad_to == "batch"
        self._budget = budget
        self._most_padding = budget if skips_padding else budget // PADDING

    @abstractmethod
    def batch_logits(self, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Logits of a batch.

        Args:
            ids: `(B, T)` int32 token ids, right-padded.
            lengths: `(B,)` int64, real tokens of each row.

        Returns:
            `(B, C)` float32, columns as the task has its classes.
        """

    @abstractmethod
    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities `(N, C)` from logits `(N, C)`."""

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """The most probable class name of each text, `(N,)`.

        Raises:
            UserError: an empty text.
        """
        return np.array(self.classes)[self.logits(texts, self.token_rows(texts)).argmax(axis=1)]

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities of all classes, `(N, C)` float32.

        What else is asked at the same time, and in which order, makes no difference of more than 1e-5 in float32, or
        0.01 in bfloat16; on CPUs mostly none at all.

        Raises:
            UserError: an empty text.
        """
        return self.probabilities(self.logits(texts, self.token_rows(texts)))

    def logits(self, texts: Sequence[str], rows: Sequence[np.ndarray]) -> np.ndarray:
        """Logits before calibration, `(N, C)` float32: those of the model, joined with its n-grams if it has any.

        Args:
            texts: N of them, which n-grams are counted in.
            rows: their token ids, as `token_rows` makes them.
        """
        found = self.model_logits(rows)
        return found if self.ngrams is None else self.joined(found, texts)

    def joined(self, logits: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """The model's logits `(N, C)`, columns in the order of `classes`, joined with the n-grams of N texts."""
        assert self.ngrams is not None
        in_order = np.empty_like(logits)
        in_order[:, self._order] = logits  # as the task has its classes
        return self.ngrams.joined(in_order, list(texts))[:, self._order]

    def model_logits(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """Logits of the model alone, `(N, C)` float32.

        Rows are padded as in training. With a pooling that reads padding and batches that were padded to their
        longest text, each text is read alone, without padding.

        Args:
            rows: token ids, as `token_rows` makes them.
        """
        found = np.empty((len(rows), len(self.classes)), dtype=np.float32)
        lengths_of_rows = np.array([len(row) for row in rows], dtype=np.int64)
        pad_to: Any = self.spec.pad_to
        batch_size = 1 if self._alone else 32
        parts = evaluation_parts(lengths_of_rows, batch_size, pad_to, self._alone, self._budget, self._most_padding)
        for chosen, T in parts:
            ids, lengths = padded([rows[i] for i in chosen], T, self.tokenizer.pad_id)
            found[chosen] = self.batch_logits(ids, lengths)[:, self._order]
        return found

    def token_rows(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text, cut as in training.

        Args:
            texts: a list, a tuple, a numpy array of one dimension or a pandas Series of N strings, none empty.

        Raises:
            UserError: it is something else, such as one text, a table or a generator; a text is empty; or it is longer
                than a classifier reads that was trained with `data.truncate=error`.
        """
        texts = list_of("texts", texts)
        for i, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                what = "empty" if isinstance(text, str) else f"{type(text).__name__}, not text"
                raise UserError(f"text {i + 1} of {len(texts)} is {what}; a classifier needs something to read.")
        try:
            return self._encode(texts)[0]
        except TextTooLong as error:
            raise UserError(
                f"The text that begins {beginning(texts[error.index])} has {error.tokens:,} tokens, but this "
                f"classifier reads {self.spec.max_length:,} at most, as it was trained with data.truncate=error. "
                f"Shorten the text, or train with data.truncate=head, tail or head_tail, or a larger data.max_length."
            ) from error

    def why_too_long(self, text: str) -> str:
        """Why `token_rows` refuses a text that is not empty: for its length alone; or an empty string."""
        if self.spec.truncate == "error":
            try:
                self._encode([text])
            except TextTooLong as error:
                return f"the text is too long: {error.tokens:,} tokens, where {self.spec.max_length:,} are read at most"
        return ""

    def cut(self, texts: Sequence[str], rows: Sequence[np.ndarray]) -> list[bool]:
        """Whether something of each text was left out of its row.

        Args:
            texts: none of them empty.
            rows: as `token_rows` made them.
        """
        # one that was cut has at least as many tokens as are read, or as many as windows make of these
        return [
            len(row) >= self.spec.max_length and self._encode([text])[1] > 0
            for text, row in zip(texts, rows, strict=True)
        ]

    def _encode(self, texts: Sequence[str]) -> tuple[list[np.ndarray], int]:
        """Token ids of each text, and how many texts were cut."""
        options: Any = {} if self._windows is None else {"windows": self._windows}
        truncate: Any = self.spec.truncate
        return self.tokenizer.encode(texts, self.spec.max_length, truncate, **options)
