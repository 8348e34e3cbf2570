"""How the predictions of a classifier that reads position -1 depend on the length that messages are padded to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from gpt_classifier.data.batching import pad
from gpt_classifier.figures import BLUE, ORANGE
from gpt_classifier.models.classifier import Classifier

BATCH = 32


@dataclass(frozen=True)
class PaddingStudy:
    """Predictions at every padded length.

    Args:
        predicted: `(N, L)` class ids: column T-1 is for messages padded to T tokens; longer messages are read at their
            own end.
        labels: `(N,)` true class ids.
        lengths: `(N,)` tokens of each message.
    """

    predicted: Tensor
    labels: Tensor
    lengths: Tensor

    def accuracy(self) -> list[float]:
        """Accuracy at each padded length, from 1 (no padding) to L."""
        return (self.predicted == self.labels[:, None]).float().mean(dim=0).tolist()

    def changed(self) -> list[int]:
        """Number of messages with another label than without padding, at each padded length."""
        return (self.predicted != self.predicted[:, :1]).sum(dim=0).tolist()

    def unstable(self) -> int:
        """Number of messages whose label changes at any padded length."""
        return int((self.predicted != self.predicted[:, :1]).any(dim=1).sum())


@torch.inference_mode()
def study_padding(
    model: Classifier, rows: Sequence[np.ndarray], labels: Tensor, longest: int, pad_id: int
) -> PaddingStudy:
    """Classify every message at every padded length from none to `longest`, in one pass per message.

    Under a causal mask, position T-1 of a longer row equals the last position of a row of T tokens.

    Args:
        model: causal, in eval mode; read as if its pooling were `padded_last_token`.
        rows: token ids of each message, at most `longest`.
        labels: `(N,)` class ids.
        longest: L, the largest padded length in tokens.
        pad_id: id of the padding token.
    """
    device = model.head.weight.device
    lengths = torch.tensor([len(row) for row in rows])
    parts = []
    for start in range(0, len(rows), BATCH):
        ids, real = pad(rows[start : start + BATCH], longest, pad_id)
        everywhere = torch.full((len(ids),), longest, device=device)
        hidden = model.backbone(ids.to(device), everywhere)  # (B, L, D)
        logits = model.head(hidden)  # (B, L, C)
        if model.words is not None:
            logits = logits + model.words(ids.to(device), real.to(device))[:, None]
        at = logits.argmax(dim=-1).cpu()  # (B, L)
        read = torch.maximum(torch.arange(longest), real[:, None] - 1)  # (B, L)
        parts.append(at.gather(1, read))
    return PaddingStudy(torch.cat(parts), labels, lengths)


def picture(accuracy: Sequence[float], changed: Sequence[int], messages: int) -> Figure:
    """Plot test accuracy and the number of changed labels against the padded length, from 1 token."""
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
