"""A GPT backbone read at one vector a message, with a linear head for the classes."""

import torch
from torch import Tensor, nn

from gpt_classifier.model.gpt import GPT


class GPTClassifier(nn.Module):
    """Class logits from token ids.

    Args:
        backbone: the pretrained GPT, of width D.
        pooling: one of `gpt_classifier.model.pooling.POOLINGS`.
        num_classes: number of classes, C; the head is `Linear(D, C)`, with bias.
    """

    def __init__(self, backbone: GPT, pooling: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling
        self.head = nn.Linear(backbone.config.n_embd, num_classes)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Float32 logits, whatever type the backbone computes in.

        Args:
            ids: `(B, T)` token ids, right-padded.
            lengths: `(B,)` number of real tokens of each row, at least 1.

        Returns:
            `(B, C)`.
        """
        hidden = self.backbone(ids)  # (B, T, D)
        with torch.autocast(hidden.device.type, enabled=False):
            summary = self.pooling(hidden.float(), lengths)  # (B, D)
            return self.head(summary)  # (B, C)
