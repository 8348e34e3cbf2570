"""Where the head reads: from the hidden states of a text to one vector."""

from typing import Self

import torch
from torch import Tensor, nn

from gpt_classifier.errors import UserError, expect_number, expect_one_of
from gpt_classifier.models.backbone import take
from gpt_classifier.models.windows import WindowsOf
from gpt_classifier.tokenizers.cutting import Windows


class Pooling(nn.Module):
    """One vector a text. A subclass defines `forward`, and what else applies to it.

    A subclass may have parameters, which are trained whatever `freeze` says, and arguments, which it returns from
    `state` so that a saved classifier can be reopened.

    Attributes:
        reads_padding: whether the result depends on how far a row was padded.
        fixed: whether the result depends on the arguments of `forward` and the class name alone, now and in later
            versions of the code. Only then is it cached; otherwise the hidden states are.
    """

    reads_padding = False
    fixed = False

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Pool hidden states.

        Args:
            hidden: `(B, T, D)`; unless `reads_padding`, whatever stands at padding must not matter.
            lengths: `(B,)` real tokens of each row, at least 1.

        Returns:
            `(B, D)`.
        """
        raise TypeError(f"{type(self).__name__} defines no forward(hidden, lengths)")

    @classmethod
    def name(cls) -> str:
        """What configs and checkpoints call it: a name of `POOLINGS`, or module and class."""
        return f"{cls.__module__}.{cls.__qualname__}"

    def state(self) -> dict[str, object]:
        """The arguments that made it, as plain values."""
        return {}

    def positions(self, lengths: Tensor, T: int) -> Tensor | None:
        """The one position `(B,)` of each row that is read, or `None` where it takes several."""
        return None

    def running(self, hidden: Tensor) -> Tensor:
        """What would be pooled of the text up to each token, padding aside: `(B, T, D)` to `(B, T, D)`.

        Defined where one causal pass tells it, see `has_trace`.
        """
        raise UserError(f"pooling {self.name()} can't be evaluated after each token.")

    @property
    def has_trace(self) -> bool:
        """Whether it defines `running`."""
        return type(self).running is not Pooling.running

    @property
    def windows(self) -> Windows | None:
        """How a long text is read; `None` where a text is read as a whole."""
        return None

    @property
    def per_window(self) -> "Pooling":
        """What reads one window, or the whole text."""
        return self

    def within(self, context: int) -> Self:
        """The same for a backbone that reads at most `context` tokens at once, with all its sizes settled.

        Raises:
            OptionError: they do not fit.
        """
        return self


class BuiltIn(Pooling):
    """A pooling of this package, known by a name of its own and without parameters."""

    fixed = True
    label: str

    @classmethod
    def name(cls) -> str:
        return cls.label


class OnePosition(BuiltIn):
    """Reads a single position, so that a last block need compute no other."""

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        positions = self.positions(lengths, hidden.shape[1])
        assert positions is not None
        return take(hidden, positions)[:, 0]


class LastToken(OnePosition):
    """The last real token: under a causal mask the only one that has seen the whole text."""

    label = "last_token"

    def positions(self, lengths: Tensor, T: int) -> Tensor:
        return lengths - 1

    def running(self, hidden: Tensor) -> Tensor:
        return hidden


class FirstToken(OnePosition):
    """The first token, which under a causal mask has seen only itself: a control experiment."""

    label = "first_token"

    def positions(self, lengths: Tensor, T: int) -> Tensor:
        return torch.zeros_like(lengths)


class Mean(BuiltIn):
    """The mean over real tokens."""

    label = "mean"

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        # where, not a product: whatever stands at padding, even inf, must not reach the sum
        total = torch.where(_real(hidden, lengths), hidden, 0.0).sum(dim=1)  # (B, D)
        return total / lengths[:, None]

    def running(self, hidden: Tensor) -> Tensor:
        counts = torch.arange(1, hidden.shape[1] + 1, device=hidden.device)
        return hidden.cumsum(dim=1) / counts[:, None]


class Max(BuiltIn):
    """The largest value of each feature over real tokens."""

    label = "max"

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        return torch.where(_real(hidden, lengths), hidden, -torch.inf).amax(dim=1)

    def running(self, hidden: Tensor) -> Tensor:
        return hidden.cummax(dim=1).values


class PaddedLastToken(LastToken):
    """Position -1 of the padded row, most often a padding token: what the chapter reads."""

    label = "padded_last_token"
    reads_padding = True

    def positions(self, lengths: Tensor, T: int) -> Tensor:
        return torch.full_like(lengths, T - 1)


class PaddedMean(Mean):
    """The mean over all positions, padding included."""

    label = "padded_mean"
    reads_padding = True

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        return hidden.mean(dim=1)


class Windowed(BuiltIn):
    """A long text in windows, each read by itself, pooled over all of them; a text that fits in one as without.

    The maximum and the mean are over the tokens of all windows; of one position, it is each window's, then their mean.

    Args:
        inner: the pooling of a window, one of `IN_WINDOWS`.
        size: tokens of a window; `None` for the context of the backbone.
        overlap: tokens that a window shares with the one before; `None` for a quarter of the size.

    Raises:
        OptionError: there is no such pooling, it reads padding, or the overlap is not below the size.
    """

    label = "windows"

    def __init__(self, inner: str = "max", size: int | None = None, overlap: int | None = None) -> None:
        super().__init__()
        expect_one_of("inner", inner, IN_WINDOWS, "Padding says nothing about a text that is read in windows.")
        for option, value, low in (("size", size, 1), ("overlap", overlap, 0)):
            if value is not None:
                expect_number(option, value, low, whole=True)
        self.pooling = POOLINGS[inner]()
        self.size = size
        self.overlap = overlap if overlap is not None or size is None else size // 4
        _ = self.windows  # refuses an overlap that is too large

    def state(self) -> dict[str, object]:
        return {"inner": self.pooling.name(), "size": self.size, "overlap": self.overlap}

    @property
    def windows(self) -> Windows | None:
        return None if self.size is None or self.overlap is None else Windows(self.size, self.overlap)

    @property
    def per_window(self) -> Pooling:
        return self.pooling

    def within(self, context: int) -> Self:
        size = context if self.size is None else self.size
        expect_number("size", size, 1, context, whole=True, hint=f"The model reads at most {context} tokens at once.")
        return type(self)(self.pooling.name(), size, self.overlap)

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        if not isinstance(self.pooling, OnePosition):
            return self.pooling(hidden, lengths)
        windows = WindowsOf(lengths, hidden.shape[1], self.size)
        return windows.mean(self.pooling(windows.apart(hidden), windows.lengths))

    @property
    def has_trace(self) -> bool:
        return self.pooling.has_trace

    def running(self, hidden: Tensor) -> Tensor:
        running = self.pooling.running(hidden)
        if self.size is None or not isinstance(self.pooling, OnePosition):
            return running
        finished = running[:, self.size - 1 :: self.size].cumsum(dim=1)  # (B, whole windows, D)
        before = torch.cat([torch.zeros_like(running[:, :1]), finished], dim=1)
        number = torch.arange(hidden.shape[1], device=hidden.device) // self.size  # (T,)
        return (before[:, number] + running) / (number + 1)[:, None]


def _real(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Which positions are no padding, `(B, T, 1)`."""
    return (torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None])[:, :, None]


POOLINGS: dict[str, type[Pooling]] = {
    pooling.label: pooling for pooling in (LastToken, FirstToken, Mean, Max, PaddedLastToken, PaddedMean, Windowed)
}
"""The poolings of this package under the names that configs and checkpoints give them."""

IN_WINDOWS = tuple(name for name, pooling in POOLINGS.items() if not pooling.reads_padding and pooling is not Windowed)


def find_pooling(name: str) -> type[Pooling]:
    """The class that a checkpoint names.

    A class of a user's own is found only where its module has been imported already: opening a file never imports
    or runs code that the file names.

    Raises:
        UserError: there is no such class.
    """
    if name in POOLINGS:
        return POOLINGS[name]
    waiting = list(Pooling.__subclasses__())
    while waiting:
        found = waiting.pop()
        if not issubclass(found, BuiltIn) and found.name() == name:
            return found
        waiting += found.__subclasses__()
    module = name.rpartition(".")[0] or name
    raise UserError(
        f"pooling: this classifier reads its text with {name}, which is not part of this package, and a file's word is "
        f"no reason to import a module. If you trust it, import {module} first (commands: --import {module})."
    )
