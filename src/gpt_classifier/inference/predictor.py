"""An opened classifier: texts in, logits and probabilities out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpt_classifier.artifact import Artifact, Spec, open_artifact
from gpt_classifier.data.batching import EvaluationBatches, pad
from gpt_classifier.device import best_device, evaluation_tokens, has_native_bf16, warn_if_emulated
from gpt_classifier.errors import UserError, expect_one_of, first_line
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.freezing import hold_frozen
from gpt_classifier.models.lora import merge
from gpt_classifier.tables.texts import list_of
from gpt_classifier.tasks import task_from_state
from gpt_classifier.tokenizers import tokenizer_from_state
from gpt_classifier.tokenizers.cutting import TextTooLong, beginning

PRECISIONS = ("auto", "32-true", "bf16-mixed")

EVEN = 16
"""With fewer rows of a product, or with tokens that are no multiple of it, kernels for the CPU round differently."""


class Predictor:
    """A fine-tuned classifier on a device, without anything of its training.

    Args:
        model: the classifier; adapters are folded into it, and it is switched to evaluation.
        spec: what prediction needs beside weights.
        precision: `auto` for bfloat16 products where the hardware multiplies it natively, `32-true`, or `bf16-mixed`.

    Attributes:
        classes: C names, sorted: the order of the columns of everything here.
        temperature: logits are divided by it for probabilities; 1 unless it was calibrated.
        note: what every report on its data must say, or an empty string.

    Raises:
        UserError: there is no such precision.
    """

    def __init__(self, model: Classifier, spec: Spec, precision: str = "auto") -> None:
        expect_one_of("precision", precision, PRECISIONS)
        merge(model)
        warn_if_emulated(precision, model.head.weight.device.type)
        self.model = model.requires_grad_(False).eval()
        self.reduced = precision == "bf16-mixed" or (precision == "auto" and has_native_bf16(self.device.type))
        hold_frozen(model, torch.bfloat16 if self.reduced else torch.float32)
        self.spec = spec
        self.tokenizer = tokenizer_from_state(spec.tokenizer)
        self.task = task_from_state(spec.task)
        self.classes = sorted(self.task.classes)
        self._order = [self.task.classes.index(name) for name in self.classes]
        self.temperature = spec.temperature
        self.note = spec.note

    @classmethod
    def open(
        cls,
        path: Path,
        device: str | None = None,
        weights: Path | None = None,
        precision: str = "auto",
        verify: bool = False,
    ) -> "Predictor":
        """Open a checkpoint or bundle without executing anything that it contains.

        Args:
            path: `best.ckpt` or `last.ckpt` of a run, or a folder that `TextClassifier.save` wrote.
            device: where to compute; `None` for the best device there is.
            weights: the pretrained weights that were fine-tuned, if they are no longer where training found them.
            precision: as `Predictor`.
            verify: read all pretrained weights to check them, even if they were checked before and seem unchanged.

        Raises:
            UserError: there is no such file, it is not a whole artifact of this project, or the pretrained weights
                that it builds on are missing or other ones.
        """
        return cls.of(open_artifact(path), device, weights, precision, verify)

    @classmethod
    def of(
        cls,
        artifact: Artifact,
        device: str | None = None,
        weights: Path | None = None,
        precision: str = "auto",
        verify: bool = False,
    ) -> "Predictor":
        """The same for an artifact that is open already."""
        place = find_device(device)
        return cls(artifact.build(weights, verify).to(place), artifact.spec, precision)

    @property
    def device(self) -> torch.device:
        return self.model.head.weight.device

    def in_order(self, logits: Tensor) -> Tensor:
        """The model's logits `(…, C)` with the columns of `classes`."""
        return logits[..., self._order]

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities `(N, C)` from logits `(N, C)`."""
        return self.task.probabilities(torch.from_numpy(logits) / self.temperature).numpy()

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """The most probable class name of each text, `(N,)`.

        Raises:
            UserError: an empty text.
        """
        return np.array(self.classes)[self.logits(self.token_rows(texts)).argmax(axis=1)]

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities of all classes, `(N, C)` float32.

        What else is asked at the same time, and in which order, makes no difference of more than 1e-5 in float32, or
        0.01 in bfloat16; on CPUs mostly none at all.

        Raises:
            UserError: an empty text.
        """
        return self.probabilities(self.logits(self.token_rows(texts)))

    def logits(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """Logits before calibration, `(N, C)` float32.

        Rows are padded as in training. With a pooling that reads padding and batches that were padded to their
        longest text, each text is read alone, without padding.

        Args:
            rows: token ids, as `token_rows` makes them.
        """
        found = np.empty((len(rows), len(self.classes)), dtype=np.float32)
        alone = self.model.pooling.reads_padding and self.spec.pad_to == "batch"
        lengths_of_rows = np.array([len(row) for row in rows], dtype=np.int64)
        pad_to: Any = self.spec.pad_to
        budget = evaluation_tokens(self.device.type)
        for chosen, T in EvaluationBatches(lengths_of_rows, 1 if alone else 32, pad_to, in_order=alone, budget=budget):
            padded = T if self.model.pooling.reads_padding else self._even(T)
            ids, lengths = pad([rows[i] for i in chosen], padded, self.tokenizer.pad_id)
            with self.computing():
                logits = self._of_batch(ids.to(self.device), lengths.to(self.device))  # (B, C)
            found[chosen] = self.in_order(logits).cpu().numpy()
        return found

    def _even(self, T: int) -> int:
        """Tokens that rows of at most T are padded to: a multiple of `EVEN`, or all that the model reads."""
        even = T + -T % EVEN
        return even if self.model.pooling.windows is not None else min(even, max(T, self.spec.max_length))

    def _of_batch(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Logits `(B, C)` of token ids `(B, T)`, the same whatever else is in the batch, as far as kernels are.

        Where each text is one row of a product, as in the head, small batches get further rows. Before that, its tokens
        are rows, and `_even` sees to it that there are enough.
        """
        model, B = self.model, len(ids)
        depth = model.backbone.depth - 1 if model.reads_one_position else model.pooled_depth
        x = model.prefix(ids, lengths, depth)
        if B >= EVEN:
            return model.suffix(x, lengths, depth, ids)
        rows = torch.arange(EVEN, device=ids.device).clamp_max(B - 1)
        return model.suffix(x[rows], lengths[rows], depth, ids[rows])[:B]

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
        windows = self.model.pooling.windows
        options: Any = {} if windows is None else {"windows": windows}
        truncate: Any = self.spec.truncate
        return self.tokenizer.encode(texts, self.spec.max_length, truncate, **options)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Inside, no gradients are kept, and products are of this classifier's precision."""
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.reduced):
            yield


def find_device(name: str | None) -> torch.device:
    """A device by name, or the best there is.

    Raises:
        UserError: it can't be used here.
    """
    try:
        device = torch.device(name or best_device())
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"device: {name} can't be used here ({first_line(error)}). Leave it out for the best."
        ) from error
    return device
