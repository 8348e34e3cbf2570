"""Rows that hold the windows of a text one after another, as rows of one window each."""

import torch
import torch.nn.functional as F
from torch import Tensor


class WindowsOf:
    """The windows of a batch, each a row of its own, so that positions begin anew in it and nothing sees another one.

    Args:
        lengths: `(B,)` real tokens of each row.
        T: length that the rows are padded to.
        size: tokens of each window of a row but the last; `None`, or at least T: each row is one window.

    Attributes:
        lengths: `(W,)` real tokens of each window, at least 1: windows of padding alone are left out.
        T: length that they are padded to.
    """

    def __init__(self, lengths: Tensor, T: int, size: int | None) -> None:
        self.lengths = lengths
        self.T = self._whole = T
        self._real: Tensor | None = None  # (B, n), which of them are no padding
        if size is not None and size < T:
            starts = torch.arange(0, T, size, device=lengths.device)
            found = (lengths[:, None] - starts).clamp(0, size)  # (B, n)
            self._real = found > 0
            self.lengths = found[self._real]
            self.T = size

    def apart(self, x: Tensor) -> Tensor:
        """`(B, T, …)` to `(W, size, …)`."""
        if self._real is None:
            return x
        n = self._real.shape[1]
        x = F.pad(x, (0, 0) * (x.dim() - 2) + (0, n * self.T - x.shape[1]))
        return x.unflatten(1, (n, self.T))[self._real]

    def together(self, x: Tensor) -> Tensor:
        """`(W, size, …)` to `(B, T, …)`, zeros where a window was left out."""
        return x if self._real is None else self._spread(x).flatten(1, 2)[:, : self._whole]

    def mean(self, x: Tensor) -> Tensor:
        """The mean over the windows of each row: `(W, D)` to `(B, D)`."""
        return x if self._real is None else self._spread(x).sum(dim=1) / self._real.sum(dim=1)[:, None]

    def _spread(self, x: Tensor) -> Tensor:
        assert self._real is not None
        spread = x.new_zeros(*self._real.shape, *x.shape[1:])
        spread[self._real] = x
        return spread
