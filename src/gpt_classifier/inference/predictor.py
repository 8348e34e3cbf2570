"""An opened classifier on a device, through torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gpt_classifier.artifact import Artifact, open_artifact
from gpt_classifier.device import best_device, evaluation_tokens, has_native_bf16, warn_if_emulated
from gpt_classifier.errors import UserError, expect_one_of, first_line
from gpt_classifier.inference.text_predictor import TextPredictor
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.freezing import hold_frozen
from gpt_classifier.models.lora import merge
from gpt_classifier.models.packing import EVEN
from gpt_classifier.ngrams import NGrams
from gpt_classifier.spec import Spec
from gpt_classifier.tasks import task_from_state

PRECISIONS = ("auto", "32-true", "bf16-mixed")


class Predictor(TextPredictor):
    """A fine-tuned classifier on a device, without anything of its training.

    Args:
        model: the classifier; adapters are folded into it, and it is switched to evaluation.
        spec: what prediction needs beside weights.
        precision: `auto` for bfloat16 products where the hardware multiplies it natively, `32-true`, or `bf16-mixed`.
        ngrams: the linear model beside it, if there is one.

    Raises:
        UserError: there is no such precision.
    """

    def __init__(self, model: Classifier, spec: Spec, precision: str = "auto", ngrams: NGrams | None = None) -> None:
        expect_one_of("precision", precision, PRECISIONS)
        merge(model)
        warn_if_emulated(precision, model.head.weight.device.type)
        self.model = model.requires_grad_(False).eval()
        self.reduced = precision == "bf16-mixed" or (precision == "auto" and has_native_bf16(self.device.type))
        self.device_name = str(self.device)
        self.precision = "bf16-mixed" if self.reduced else "32-true"
        hold_frozen(model, torch.bfloat16 if self.reduced else torch.float32)
        self.task = task_from_state(spec.task)
        self._packs = self.device.type == "cpu" and not model.pooling.reads_padding and model.backbone.skip_padding()
        budget = evaluation_tokens(self.device.type)
        super().__init__(
            spec, model.pooling.windows, model.pooling.reads_padding, budget, ngrams, skips_padding=self._packs
        )

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
        return cls(artifact.build(weights, verify).to(place), artifact.spec, precision, artifact.ngrams())

    @property
    def device(self) -> torch.device:
        return self.model.head.weight.device

    def in_order(self, logits: Tensor) -> Tensor:
        """The model's logits `(…, C)` with the columns of `classes`."""
        return logits[..., self._order]

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities `(N, C)` from logits `(N, C)`."""
        return self.task.probabilities(torch.from_numpy(logits) / self.temperature).numpy()

    def batch_logits(self, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        T = ids.shape[1]
        if not self.model.pooling.reads_padding:
            ids = np.pad(ids, ((0, 0), (0, self._even(T) - T)), constant_values=self.tokenizer.pad_id)
        with self.computing():
            logits = self._of_batch(torch.from_numpy(ids).to(self.device), torch.from_numpy(lengths).to(self.device))
        return logits.cpu().numpy()

    def _even(self, T: int) -> int:
        """Tokens that rows of at most T are padded to: a multiple of `EVEN`, or all that the model reads."""
        even = T + -T % EVEN
        return even if self.model.pooling.windows is not None else min(even, max(T, self.spec.max_length))

    def _of_batch(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Logits `(B, C)` of token ids `(B, T)`, the same whatever else is in the batch, as far as kernels are.

        In the head each text is one row of a product, so that small batches get further rows there. Before that its
        tokens are rows, and `_even` sees to it that there are enough. Where the last block computes one position of
        each text alone, so does packing; without it, rounding may differ, as further rows would cost more than they
        are worth.
        """
        model, B = self.model, len(ids)
        if B >= EVEN or (model.reads_one_position and not self._packs):
            return model(ids, lengths)
        features = model.prefix(ids, lengths, model.pooled_depth)
        rows = torch.arange(EVEN, device=ids.device).clamp_max(B - 1)
        return model.suffix(features[rows], lengths[rows], model.pooled_depth, ids[rows])[:B]

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
