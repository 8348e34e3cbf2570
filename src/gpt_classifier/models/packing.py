"""Rows of different lengths, one after another as one, so that little is computed of their padding."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

EVEN = 16
"""With fewer rows of a product, or with tokens that are no multiple of it, kernels for the CPU round differently."""


class Packing:
    """The rows of a batch as one row of N tokens, which is all the same to what is computed of each token alone.

    Rows of like length are a part, which attention reads as a batch. N is one of some fifty numbers, as libraries
    compile kernels for each shape of a product.

    Args:
        lengths: `(B,)` visible tokens of each row.
        T: tokens of each row, padding included.

    Attributes:
        order: `(B,)`, where each of the packed rows was before.
    """

    def __init__(self, lengths: Tensor, T: int) -> None:
        tokens = (lengths + -lengths % EVEN).clamp(max=T)
        self.order = tokens.argsort(stable=True)
        tokens = tokens[self.order]
        kept = torch.arange(T) < tokens[:, None]  # (B, T)
        self._T = T
        self._places = (self.order[:, None] * T + torch.arange(T))[kept]  # of the packed tokens among all B · T
        self._starts = tokens.cumsum(0) - tokens
        self._padding = -len(self._places) % _step(len(self._places))
        lengths_of_parts, rows = tokens.unique_consecutive(return_counts=True)
        self._parts = list(zip(rows.tolist(), lengths_of_parts.tolist(), strict=True))  # (B_i, T_i)

    def together(self, x: Tensor) -> Tensor:
        """`(B, T, D)` to `(1, N, D)`."""
        return F.pad(x.flatten(0, 1)[self._places], (0, 0, 0, self._padding))[None]

    def apart(self, x: Tensor) -> Tensor:
        """`(1, N, D)` to `(B, T, D)`, with zeros for padding that was left out."""
        rows = x.new_zeros(len(self.order) * self._T, x.shape[-1])
        rows[self._places] = x[0, : len(self._places)]
        return rows.unflatten(0, (-1, self._T))

    def positions(self, positions: Tensor) -> Tensor:
        """One position of each row, `(B,)`, among the N: as many of them as is a multiple of `EVEN`."""
        return F.pad(self._starts + positions[self.order], (0, -len(positions) % EVEN))

    def as_before(self, x: Tensor) -> Tensor:
        """What was computed at `positions`, in the order in which the rows came: `(B, …)`."""
        return x[self.order.argsort()]

    def mixed(self, mix: Callable[[Tensor, Tensor | None], Tensor], x: Tensor, visible: Tensor | None) -> Tensor:
        """Let tokens take from others of their row.

        Args:
            mix: of a part, `(B_i, T_i, …)` to `(B_i, T_i, D)`, with what all tokens of a row see, `(B_i, T_i)`.
            x: `(1, N, …)`.
            visible: `(B, T)` of the packed rows; `None`: each token sees itself and earlier ones.

        Returns:
            `(1, N, D)`.
        """
        parts = zip(self._split(x), self._visible(visible), strict=True)
        rows = torch.cat([mix(part, seen).flatten(0, 1) for part, seen in parts])
        return F.pad(rows, (0, 0, 0, self._padding))[None]

    def read(
        self,
        read: Callable[[Tensor, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]],
        x: Tensor,
        queries: Tensor,
        positions: Tensor,
        visible: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """The same for one query of each row, of parts of all that is given.

        Args:
            read: of `(B_i, T_i, D)`, `(B_i, …)` and `(B_i,)` positions of their rows: two results, `(B_i, …)` each.
            x: `(1, N, D)`.
            queries: at `positions`.
            positions: as `positions` says.
            visible: `(B, T)` of the packed rows; `None`: each token sees itself and earlier ones.
        """
        B, rows = len(self.order), [rows for rows, _ in self._parts]
        within = (positions[:B] - self._starts).split(rows)
        parts = zip(self._split(x), queries[:B].split(rows), within, self._visible(visible), strict=True)
        found = zip(*(read(*part) for part in parts), strict=True)
        first, second = (F.pad(torch.cat(parts), (0, 0) * (parts[0].dim() - 1) + (0, -B % EVEN)) for parts in found)
        return first, second

    def _split(self, x: Tensor) -> list[Tensor]:
        parts = x[0].split([*(rows * tokens for rows, tokens in self._parts), self._padding])
        return [part.unflatten(0, size) for part, size in zip(parts, self._parts, strict=False)]

    def _visible(self, visible: Tensor | None) -> list[Tensor | None]:
        if visible is None:
            return [None] * len(self._parts)
        split = visible.split([rows for rows, _ in self._parts])
        return [part[:, :tokens] for part, (_, tokens) in zip(split, self._parts, strict=True)]


def _step(tokens: int) -> int:
    """What a number of tokens is made a multiple of: a sixteenth of the next power of two."""
    return max(EVEN, 2 ** (tokens - 1).bit_length() // 16)
