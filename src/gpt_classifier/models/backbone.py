"""The interface between a pretrained transformer and everything that fine-tunes it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gpt_classifier.errors import UserError


@dataclass(frozen=True)
class AdaptableLinear:
    """A linear layer of a block, as LoRA sees it.

    Args:
        owner: the module that has the layer.
        name: the attribute of `owner` that is the layer.
        parts: what the layer's outputs are, in the field's names: one name, or several for equal parts in this order.
    """

    owner: nn.Module
    name: str
    parts: tuple[str, ...]

    @property
    def linear(self) -> nn.Linear:
        return getattr(self.owner, self.name)


class Backbone(nn.Module, ABC):
    """Hidden states from token ids, in stages: embeddings, blocks, final norm.

    Stage 0 is the embeddings, stage `i` the block `i - 1`, stage `depth + 1` the final norm. Masks, rotary tables and
    relative positions are a backbone's own affair: it is given the number of visible tokens of each row, and whatever
    a row holds beyond that must not change a result at a visible position.

    Attributes:
        width: of the hidden states, D.
        context: longest sequence in tokens, special tokens included.
        depth: number of blocks.
        vocab_size: number of token ids, V.
        causal: whether each token sees itself and earlier ones only.
        dropout: probability of dropping while it trains; 0 for none.
        drops_frozen: whether dropout also acts in stages that are not trained; then none of them computes the same
            twice, and none is cached.
    """

    width: int
    context: int
    depth: int
    vocab_size: int
    causal: bool
    dropout: float
    drops_frozen = True

    @abstractmethod
    def embed(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """What the first block reads.

        Args:
            ids: `(B, T)` integer token ids, right-padded with any valid id.
            lengths: `(B,)` visible tokens of each row.

        Returns:
            `(B, T, D)`.
        """

    @abstractmethod
    def blocks(self, x: Tensor, lengths: Tensor, start: int, stop: int, positions: Tensor | None = None) -> Tensor:
        """From the output of block `start - 1` to that of block `stop - 1`.

        Args:
            x: `(B, T, D)`.
            lengths: `(B,)` visible tokens of each row.
            start: number of blocks that are done.
            stop: number of blocks that are to be done; `x` itself where it equals `start`.
            positions: `(B,)`, the one position of each row that is read after the last block, which then computes no
                other; `None` for all. It has no effect on other blocks.

        Returns:
            `(B, T, D)`, or `(B, 1, D)` after the last block where positions are given.
        """

    @abstractmethod
    def norm(self, x: Tensor) -> Tensor:
        """The final norm: `(…, D)` to `(…, D)`; the identity for architectures without one."""

    @abstractmethod
    def stage(self, i: int) -> Iterable[nn.Parameter]:
        """The parameters of stage `i`, from 0 to `depth + 1`; each parameter belongs to exactly one stage."""

    @abstractmethod
    def linears(self) -> Iterator[AdaptableLinear]:
        """All linear layers of the blocks: what LoRA can adapt, and what may be held in a narrower type."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Family and sizes as plain values: with the weights, everything that the hidden states depend on."""

    def frozen_state(self) -> dict[str, Any]:
        """Of `state` what hidden states depend on where nothing drops: what those of frozen stages are kept under."""
        return self.state()

    def skip_padding(self) -> bool:
        """From now on compute as little as possible of what `blocks` finds beyond the visible tokens, on a CPU.

        What it returns there is zeros then. It gains where rows of a batch have different lengths, and nothing trains.

        Returns:
            Whether it can.
        """
        return False

    def attention(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """How much each token attends to each other one.

        Args:
            ids: `(B, T)` token ids.
            lengths: `(B,)` visible tokens of each row.

        Returns:
            `(depth, B, heads, T, T)` float32; row i is what token i looks at, and sums to 1.

        Raises:
            UserError: this backbone can't tell.
        """
        raise UserError(f"{type(self).__name__} does not expose its attention weights.")

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Hidden states after the final norm: `(B, T)` and `(B,)` to `(B, T, D)`."""
        return self.norm(self.blocks(self.embed(ids, lengths), lengths, 0, self.depth))


def take(x: Tensor, positions: Tensor) -> Tensor:
    """One position of each row: `(B, T, D)` and `(B,)` to `(B, 1, D)`."""
    return x[torch.arange(x.shape[0], device=x.device), positions][:, None]
