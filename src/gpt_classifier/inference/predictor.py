"""Class names and probabilities for texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpt_classifier.data.batching import pad
from gpt_classifier.data.tokenizer import encode, load_encoding
from gpt_classifier.errors import UserError
from gpt_classifier.model.classifier import GPTClassifier
from gpt_classifier.model.gpt import GPT, GPTConfig
from gpt_classifier.model.pooling import POOLINGS


class Predictor:
    """A fine-tuned classifier, ready for texts. It is made by `Predictor.load`.

    Args:
        model: the classifier, in eval mode, on the device to compute on.
        spec: what the checkpoint says of tokens, lengths and class names.
    """

    def __init__(self, model: GPTClassifier, spec: dict[str, Any]) -> None:
        self.model = model
        self.spec = spec
        self.class_names: list[str] = spec["class_names"]
        self.note: str = spec["note"]
        self.encoding = load_encoding(spec["tokenizer"])

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> "Predictor":
        """Open a checkpoint without executing anything that it contains.

        Args:
            path: `best.ckpt` or `last.ckpt` of a run.
            device: where to compute.

        Raises:
            UserError: there is no such file, or it is not a whole checkpoint of this project.
        """
        if not path.is_file():
            raise UserError(f"checkpoint: there is no file {path}. Give a run's checkpoints/best.ckpt, or latest.")
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            spec = checkpoint["classifier"]
            with torch.device("meta"):
                backbone = GPT(GPTConfig(**spec["backbone"]))
                model = GPTClassifier(backbone, POOLINGS[spec["pooling"]](), len(spec["class_names"]))
            weights = {name.removeprefix("model."): tensor for name, tensor in checkpoint["state_dict"].items()}
            model.load_state_dict(weights, assign=True)
        except Exception as error:  # torch raises half a dozen kinds for a damaged file
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"checkpoint: {path} is not a whole checkpoint of this project ({reason}). "
                f"Give a run's checkpoints/best.ckpt, or latest."
            ) from error
        return cls(model.requires_grad_(False).eval().to(device), spec)

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The most probable class name of each text."""
        return [self.class_names[i] for i in self.predict_proba(texts).argmax(axis=1)]

    @torch.inference_mode()
    def predict_proba(self, texts: Sequence[str], batch_size: int = 32) -> np.ndarray:
        """Probabilities of all classes.

        Texts are cut and padded as in training. With a pooling that reads padding and batches that were padded
        to their longest message, each text is read alone, without padding.

        Args:
            texts: messages, none of them empty.
            batch_size: how many are computed at a time; results do not depend on it but for rounding.

        Returns:
            `(N, C)` float32, rows in the order of the texts.

        Raises:
            UserError: an empty text.
        """
        for i, text in enumerate(texts):
            if not text.strip():
                raise UserError(f"text {i + 1} of {len(texts)} is empty; a classifier needs something to read.")
        rows, _ = encode(texts, self.encoding, self.spec["max_length"], self.spec["truncate"])
        pad_to = self.spec["pad_to"]
        if self.model.pooling.reads_padding and pad_to == "batch":
            batch_size = 1
        device = self.model.head.weight.device
        probabilities = np.empty((len(rows), len(self.class_names)), dtype=np.float32)
        by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for start in range(0, len(rows), batch_size):
            chosen = by_length[start : start + batch_size]
            length = len(rows[chosen[-1]]) if pad_to == "batch" else pad_to
            ids, lengths = pad([rows[i] for i in chosen], length, self.encoding.eot_token)
            logits = self.model(ids.to(device), lengths.to(device))  # (B, C)
            probabilities[chosen] = logits.softmax(dim=-1).cpu().numpy()
        return probabilities


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
