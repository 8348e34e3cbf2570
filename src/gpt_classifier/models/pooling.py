"""From hidden states of a padded batch to one vector a message.

Each pooling maps hidden states `(B, T, D)` and the number of real tokens of each row, `lengths` `(B,)`,
to `(B, D)`. Rows are padded on the right and have at least one real token.

`padded_*` poolings read padding too, as the book's chapter and its experiments do: with them the
prediction for a message depends on how far its batch was padded.
"""

import torch
from torch import Tensor, nn

from gpt_classifier.models.gpt import take


class Pooling(nn.Module):
    """One vector a message."""

    name: str
    reads_padding = False

    def positions(self, lengths: Tensor, T: int) -> Tensor | None:
        """The one position `(B,)` of each row that is read, or `None` where it takes several."""
        return None


class OnePosition(Pooling):
    """Reads a single position, so that a last block need compute no other."""

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        positions = self.positions(lengths, hidden.shape[1])
        assert positions is not None
        return take(hidden, positions)[:, 0]


class LastToken(OnePosition):
    """The last real token: the only one that has seen the whole message."""

    name = "last_token"

    def positions(self, lengths: Tensor, T: int) -> Tensor:
        return lengths - 1


class FirstToken(OnePosition):
    """The first token, which under a causal mask has seen itself only: a control experiment."""

    name = "first_token"

    def positions(self, lengths: Tensor, T: int) -> Tensor:
        return torch.zeros_like(lengths)


class Mean(Pooling):
    """The mean over real tokens."""

    name = "mean"

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        positions = torch.arange(hidden.shape[1], device=hidden.device)
        real = positions < lengths[:, None]  # (B, T)
        # where, not a product: whatever stands at padding, even inf, must not reach the sum
        total = torch.where(real[:, :, None], hidden, 0.0).sum(dim=1)  # (B, D)
        return total / lengths[:, None]


class PaddedLastToken(OnePosition):
    """Position -1 of the padded row, most often a padding token: what the chapter reads."""

    name = "padded_last_token"
    reads_padding = True

    def positions(self, lengths: Tensor, T: int) -> Tensor:
        return torch.full_like(lengths, T - 1)


class PaddedMean(Pooling):
    """The mean over all positions, padding included."""

    name = "padded_mean"
    reads_padding = True

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        return hidden.mean(dim=1)


POOLINGS = {pooling.name: pooling for pooling in (LastToken, FirstToken, Mean, PaddedLastToken, PaddedMean)}
"""Every pooling under the name that configs and checkpoints give it."""
