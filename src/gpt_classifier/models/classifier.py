"""A backbone read at one vector a text, with a linear head for the classes."""

from typing import Any

import torch
from torch import Tensor, nn

from gpt_classifier.models.backbone import Backbone
from gpt_classifier.models.bag_of_tokens import BagOfTokens
from gpt_classifier.models.pooling import Pooling
from gpt_classifier.models.windows import WindowsOf


class Classifier(nn.Module):
    """Logits from token ids.

    It can stop and go on between blocks. A depth is a number of blocks that are done; one more than there are means
    that the final norm and the pooling are done too.

    Args:
        backbone: pretrained, of width D.
        pooling: such as one of `gpt_classifier.models.pooling.POOLINGS`.
        num_outputs: logits of each text, C; the head is `Linear(D, C)`, with bias.

    Attributes:
        words: adds its logits to those of the head; `None` for none.
        head_is_fresh: whether the head's weights are random; a file of a fine-tuned classifier brings its own.
    """

    def __init__(self, backbone: Backbone, pooling: Pooling, num_outputs: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling
        self.lora: dict[str, Any] | None = None  # options of its `gpt_classifier.models.lora.LoRA`
        self.head = nn.Linear(backbone.width, num_outputs)
        self.words: BagOfTokens | None = None
        self.head_is_fresh = True

    @property
    def pooled_depth(self) -> int:
        return self.backbone.depth + 1

    @property
    def reads_one_position(self) -> bool:
        """Whether pooling reads one position of each text or window, which the last block then computes alone."""
        return self.pooling.per_window.positions(torch.ones(1, dtype=torch.int64), 1) is not None

    def frozen_depth(self) -> int:
        """The depth up to which nothing can change during training: no trainable parameter, no dropout.

        0 where already the first block can.
        """
        backbone = self.backbone
        if backbone.dropout and backbone.drops_frozen:
            return 0
        trained = (i for i in range(backbone.depth + 2) if any(p.requires_grad for p in backbone.stage(i)))
        first = next(trained, None)
        if first is None and self.pooling.fixed:
            return self.pooled_depth
        if first is None or first > backbone.depth:
            # kept before the last block where one position is read, which that block then computes alone
            return backbone.depth - self.reads_one_position
        return max(0, first - 1)

    def compile_blocks(self) -> None:
        """Let torch.compile fuse what the blocks do; the first passes take longer."""
        self.backbone.blocks = torch.compile(self.backbone.blocks, dynamic=True)  # type: ignore[method-assign]

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Float32 logits, whatever type the backbone computes in.

        Args:
            ids: `(B, T)` token ids, right-padded.
            lengths: `(B,)` number of real tokens of each row, at least 1.

        Returns:
            `(B, C)`.
        """
        return self.suffix(self.prefix(ids, lengths, depth=0), lengths, depth=0, ids=ids)

    def prefix(self, ids: Tensor, lengths: Tensor, depth: int) -> Tensor:
        """Activations at a depth: `(B, T, D)`, or `(B, D)` where pooling is done."""
        windows = self._windows(lengths, ids.shape[1])
        embedded = self.backbone.embed(windows.apart(ids), self._visible(windows.lengths, windows.T))
        return self._run(windows.together(embedded), lengths, 0, depth)

    def suffix(self, x: Tensor, lengths: Tensor, depth: int, ids: Tensor) -> Tensor:
        """Logits from activations at a depth; those at padding matter only where pooling reads padding.

        Args:
            x: `(B, T, D)`, or `(B, D)` where pooling is done.
            lengths: `(B,)` number of real tokens of each row.
            depth: of the activations.
            ids: `(B, T)` token ids.

        Returns:
            `(B, C)`.
        """
        x = self.features(x, lengths, depth)
        with torch.autocast(x.device.type, enabled=False):
            # float32, but where FSDP has cast the parameters
            logits = self.head(x.to(self.head.weight.dtype)).float()
            return logits if self.words is None else logits + self.words(ids, lengths).float()

    def features(self, x: Tensor, lengths: Tensor, depth: int) -> Tensor:
        """What the head reads, `(B, D)`, from activations at a depth."""
        return self._run(x, lengths, depth, self.pooled_depth)

    def hidden(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """What is pooled: hidden states after the final norm, `(B, T)` and `(B,)` to `(B, T, D)`."""
        windows = self._windows(lengths, ids.shape[1])
        return windows.together(self.backbone(windows.apart(ids), self._visible(windows.lengths, windows.T)))

    def _run(self, x: Tensor, lengths: Tensor, start: int, stop: int) -> Tensor:
        backbone, windowed = self.backbone, self.pooling.windows is not None
        if start == self.pooled_depth:
            return x
        windows = self._windows(lengths, x.shape[1])
        positions = self.pooling.per_window.positions(windows.lengths, windows.T)
        if windowed and not (start < backbone.depth and stop == self.pooled_depth):
            positions = None  # of what is kept before pooling all are, so that it is known where each window begins
        if start < backbone.depth:
            visible = self._visible(windows.lengths, windows.T)
            x = backbone.blocks(windows.apart(x), visible, start, min(stop, backbone.depth), positions)
            x = windows.together(x) if positions is None else x
        if stop < self.pooled_depth:
            return x
        with torch.autocast(x.device.type, enabled=False):
            x = backbone.norm(x.to(next(iter(backbone.stage(backbone.depth + 1)), self.head.weight).dtype))
            return windows.mean(x[:, 0]) if positions is not None else self.pooling(x, lengths)

    def _windows(self, lengths: Tensor, T: int) -> WindowsOf:
        windows = self.pooling.windows
        return WindowsOf(lengths, T, None if windows is None else windows.size)

    def _visible(self, lengths: Tensor, T: int) -> Tensor:
        """Tokens of each row that others see: to a pooling that reads padding, padding is text."""
        return torch.full_like(lengths, T) if self.pooling.reads_padding else lengths
