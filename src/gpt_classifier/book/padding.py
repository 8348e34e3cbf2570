"""What a classifier that reads position -1 makes of a message, depending on how far the message is padded."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from gpt_classifier.data.batching import pad
from gpt_classifier.figures import BLUE, ORANGE
from gpt_classifier.models.classifier import GPTClassifier

BATCH = 32


@dataclass(frozen=True)
class PaddingStudy:
    """Predictions at every padded length.

    Args:
        predicted: `(N, L)` class ids: column T-1 has each message padded to T tokens, or, where it is longer,
            read at its own end.
        labels: `(N,)` true class ids.
        lengths: `(N,)` tokens of each message.
    """

    predicted: Tensor
    labels: Tensor
    lengths: Tensor

    def accuracy(self) -> list[float]:
        """At each padded length, from 1 (no padding) to L."""
        return (self.predicted == self.labels[:, None]).float().mean(dim=0).tolist()

    def changed(self) -> list[int]:
        """How many messages have another label than without padding, at each padded length."""
        return (self.predicted != self.predicted[:, :1]).sum(dim=0).tolist()

    def unstable(self) -> int:
        """How many messages change their label at any padded length."""
        return int((self.predicted != self.predicted[:, :1]).any(dim=1).sum())


@torch.inference_mode()
def study_padding(
    model: GPTClassifier, rows: Sequence[np.ndarray], labels: Tensor, longest: int, pad_id: int
) -> PaddingStudy:
    """Classify every message at every padding from none to `longest`, in one pass for each message.

    Under a causal mask position T-1 of a longer row is what the last position of a row of T tokens would be.

    Args:
        model: causal, in eval mode; it is read as if its pooling were `padded_last_token`.
        rows: token ids, at most `longest` each.
        labels: `(N,)` class ids.
        longest: L, in tokens.
        pad_id: the token that pads.
    """
    device = model.head.weight.device
    lengths = torch.tensor([len(row) for row in rows])
    parts = []
    for start in range(0, len(rows), BATCH):
        ids, real = pad(rows[start : start + BATCH], longest, pad_id)
        hidden = model.backbone(ids.to(device))  # (B, L, D)
        at = model.head(hidden).argmax(dim=-1).cpu()  # (B, L)
        read = torch.maximum(torch.arange(longest), real[:, None] - 1)  # (B, L)
        parts.append(at.gather(1, read))
    return PaddingStudy(torch.cat(parts), labels, lengths)


def picture(accuracy: Sequence[float], changed: Sequence[int], messages: int) -> Figure:
    """Test accuracy, and how many labels differ from those without padding, at each padded length from 1 token."""
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    tokens = range(1, len(accuracy) + 1)
    above.plot(tokens, accuracy, color=BLUE)
    above.set_ylabel("test accuracy")
    below.plot(tokens, changed, color=ORANGE)
    below.set_ylabel(f"labels changed, of {messages}")
    below.set_xlabel("tokens that shorter messages are padded to (1: no padding)")
    for axes in (above, below):
        axes.grid(alpha=0.25)
    return figure
