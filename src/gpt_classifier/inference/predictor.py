"""Class names and probabilities for texts."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpt_classifier.data.batching import EvaluationBatches, pad
from gpt_classifier.data.tokenizer import encode, encoding_of, load_encoding, ranks_from_text
from gpt_classifier.device import has_native_bf16
from gpt_classifier.errors import UserError
from gpt_classifier.model.classifier import FORMAT, GPTClassifier
from gpt_classifier.model.freezing import hold_frozen
from gpt_classifier.model.gpt import GPT, GPTConfig
from gpt_classifier.model.lora import add_adapters, merge
from gpt_classifier.model.pooling import POOLINGS
from gpt_classifier.model.pretrained import Base, content_hash, load_backbone, locate_weights


class Predictor:
    """A fine-tuned classifier, ready for texts. It is made by `Predictor.load`.

    Args:
        model: the classifier, in eval mode, on the device to compute on.
        spec: what the checkpoint says of tokens, lengths and class names.
        precision: `auto` for bfloat16 products where the hardware multiplies it natively, `32-true`, or `bf16-mixed`.
    """

    def __init__(self, model: GPTClassifier, spec: dict[str, Any], precision: str = "auto") -> None:
        self.model = model
        self.reduced = precision == "bf16-mixed" or (precision == "auto" and has_native_bf16(self.device))
        hold_frozen(model, torch.bfloat16 if self.reduced else torch.float32)
        self.spec = spec
        self.class_names: list[str] = spec["class_names"]
        self.note: str = spec["note"]
        ranks: str | None = spec["vocabulary"]
        self.encoding = encoding_of(ranks_from_text(ranks)) if ranks else load_encoding("gpt2")

    @classmethod
    def load(cls, path: Path, device: str = "cpu", weights: Path | None = None, precision: str = "auto") -> "Predictor":
        """Open a checkpoint without executing anything that it contains.

        Args:
            path: `best.ckpt` or `last.ckpt` of a run.
            device: where to compute.
            weights: the pretrained weights that were fine-tuned, if they are no longer where training found them.
            precision: as `Predictor`.

        Raises:
            UserError: there is no such file, it is not a whole checkpoint of this project, or the pretrained weights
                that it builds on are missing or other ones.
        """
        if not path.is_file():
            raise UserError(f"checkpoint: there is no file {path}. Give a run's checkpoints/best.ckpt, or latest.")
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            spec = checkpoint["classifier"]
            if spec["format"] != FORMAT:
                raise ValueError("it was written by another version")
            trained = {name.removeprefix("model."): tensor for name, tensor in checkpoint["state_dict"].items()}
            config = GPTConfig(**spec["backbone"])
            with torch.device("meta"):
                pooling = POOLINGS[spec["pooling"]]()
                model = GPTClassifier(GPT(config), pooling, len(spec["class_names"]), spec["causal"])
            if spec["base"] is not None:
                model.backbone, _ = load_backbone(config, _find_base(Base(**spec["base"]), weights, path))
            if spec["lora"]:
                add_adapters(model, **spec["lora"])
            _, unknown = model.load_state_dict(trained, strict=spec["base"] is None, assign=True)
            if unknown or any(tensor.is_meta for tensor in model.state_dict().values()):
                raise ValueError("its weights are not those of its model")
            merge(model)
        except UserError:
            raise
        except Exception as error:  # torch raises half a dozen kinds for a damaged file
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"checkpoint: {path} is not a whole checkpoint of this project ({reason}). "
                f"Give a run's checkpoints/best.ckpt, or latest."
            ) from error
        return cls(model.requires_grad_(False).eval().to(device), spec, precision)

    @property
    def device(self) -> str:
        return self.model.head.weight.device.type

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The most probable class name of each text."""
        return [self.class_names[i] for i in self.predict_proba(texts).argmax(axis=1)]

    @torch.inference_mode()
    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities of all classes.

        Texts are cut and padded as in training. With a pooling that reads padding and batches that were padded
        to their longest message, each text is read alone, without padding.

        Args:
            texts: messages, none of them empty.

        Returns:
            `(N, C)` float32, rows in the order of the texts. What else is in a batch makes no difference but for
            rounding, which is coarser in bfloat16.

        Raises:
            UserError: an empty text.
        """
        for i, text in enumerate(texts):
            if not text.strip():
                raise UserError(f"text {i + 1} of {len(texts)} is empty; a classifier needs something to read.")
        rows, _ = encode(texts, self.encoding, self.spec["max_length"], self.spec["truncate"])
        probabilities = np.empty((len(rows), len(self.class_names)), dtype=np.float32)
        alone = self.model.pooling.reads_padding and self.spec["pad_to"] == "batch"
        lengths_of_rows = np.array([len(row) for row in rows], dtype=np.int64)
        for chosen, T in EvaluationBatches(lengths_of_rows, 1 if alone else 32, self.spec["pad_to"], in_order=alone):
            ids, lengths = pad([rows[i] for i in chosen], T, self.encoding.eot_token)
            with torch.autocast(self.device, torch.bfloat16, enabled=self.reduced):
                logits = self.model(ids.to(self.device), lengths.to(self.device))  # (B, C)
            probabilities[chosen] = logits.softmax(dim=-1).cpu().numpy()
        return probabilities


def _find_base(base: Base, given: Path | None, checkpoint: Path) -> Path:
    path = given or Path(base.path)
    if not given and not path.exists() and base.hub:
        path = locate_weights("pretrained", base.hub) or path
    hint = "Give their place with --weights PATH."
    if not path.exists():
        raise UserError(
            f"checkpoint: {checkpoint} holds only what was trained; the pretrained weights that it builds on are not "
            f"at {path}. {hint}"
        )
    memory = Path(os.environ.get("GPT_CLASSIFIER_CACHE", "~/.cache/gpt-classifier")).expanduser() / "weights.json"
    if content_hash(path, memory) != base.sha256:
        raise UserError(
            f"checkpoint: {checkpoint} builds on pretrained weights with the content hash {base.sha256[:12]}…, but "
            f"those at {path} are other ones. {hint}"
        )
    return path


def latest_checkpoint(outputs: Path) -> Path:
    """The most recently written `best.ckpt` below a folder of runs.

    Raises:
        UserError: there is none.
    """
    found = sorted(outputs.rglob("checkpoints/best.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(
            f"checkpoint=latest: no run below {outputs} has checkpoints/best.ckpt. Train one first "
            f"(python train.py experiment=quickstart), or name a checkpoint's path."
        )
    return found[-1]
