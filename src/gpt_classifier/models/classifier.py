"""A GPT backbone read at one vector a message, with a linear head for the classes."""

from typing import Any

import torch
from torch import Tensor, nn

from gpt_classifier.models.gpt import GPT
from gpt_classifier.models.pooling import Pooling

FORMAT = 3  # of what a checkpoint says beside weights


class GPTClassifier(nn.Module):
    """Class logits from token ids.

    It can stop and go on between blocks. A depth is a number of blocks that are done; one more than there are
    means that the final LayerNorm and the pooling are done too.

    Args:
        backbone: the pretrained GPT, of width D.
        pooling: one of `gpt_classifier.models.pooling.POOLINGS`.
        num_classes: number of classes, C; the head is `Linear(D, C)`, with bias.
        causal: each token sees itself and earlier ones, as in pretraining; `False` lets it see the whole message,
            and padding too where the pooling reads it.
    """

    def __init__(self, backbone: GPT, pooling: Pooling, num_classes: int, causal: bool = True) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling
        self.causal = causal
        self.lora: dict[str, Any] | None = None  # options of its `gpt_classifier.models.lora.LoRA`
        self.head = nn.Linear(backbone.config.n_embd, num_classes)

    @property
    def pooled_depth(self) -> int:
        return len(self.backbone.h) + 1

    def frozen_depth(self) -> int:
        """The depth up to which nothing can change during training: no trainable parameter, no dropout.

        0 where already the first block can.
        """
        backbone = self.backbone
        frozen = [not any(p.requires_grad for p in part.parameters()) for part in (backbone.wte, backbone.wpe)]
        if not all(frozen) or backbone.config.dropout:
            return 0
        trainable = [any(p.requires_grad for p in block.parameters()) for block in backbone.h]
        if any(trainable):
            return trainable.index(True)
        if any(p.requires_grad for p in backbone.ln_f.parameters()):
            return len(trainable) - 1
        return self.pooled_depth

    def compile_blocks(self) -> None:
        """Let torch.compile fuse what the blocks do; the first passes take longer."""
        self._blocks = torch.compile(self._blocks, dynamic=True)  # type: ignore[method-assign]

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Float32 logits, whatever type the backbone computes in.

        Args:
            ids: `(B, T)` token ids, right-padded.
            lengths: `(B,)` number of real tokens of each row, at least 1.

        Returns:
            `(B, C)`.
        """
        return self.suffix(self.prefix(ids, lengths, depth=0), lengths, depth=0)

    def prefix(self, ids: Tensor, lengths: Tensor, depth: int) -> Tensor:
        """Activations at a depth: `(B, T, D)`, or `(B, D)` where pooling is done."""
        return self._blocks(self.backbone.embed(ids), lengths, 0, depth)

    def suffix(self, x: Tensor, lengths: Tensor, depth: int) -> Tensor:
        """Logits `(B, C)` from activations at a depth; those at padding matter only where pooling reads padding."""
        x = self._blocks(x, lengths, depth, self.pooled_depth)  # (B, D)
        with torch.autocast(x.device.type, enabled=False):
            # float32, but where FSDP has cast the parameters
            return self.head(x.to(self.head.weight.dtype)).float()

    def _blocks(self, x: Tensor, lengths: Tensor, start: int, stop: int) -> Tensor:
        if start == stop:
            return x
        blocks = self.backbone.h
        positions = self.pooling.positions(lengths, x.shape[1])
        visible = None if self.causal else self._visible(lengths, x.shape[1])
        for i, block in enumerate(blocks[start:stop], start):
            last = i == len(blocks) - 1
            x = block(x, positions if last else None, visible)
        if stop < self.pooled_depth:
            return x
        with torch.autocast(x.device.type, enabled=False):
            x = self.backbone.ln_f(x.to(self.backbone.ln_f.weight.dtype))
            return x[:, 0] if positions is not None else self.pooling(x, lengths)

    def _visible(self, lengths: Tensor, T: int) -> Tensor:
        if self.pooling.reads_padding:
            return torch.ones(1, T, dtype=torch.bool, device=lengths.device)
        return torch.arange(T, device=lengths.device) < lengths[:, None]  # (B, T)
