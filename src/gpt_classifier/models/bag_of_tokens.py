"""Which tokens a text has, read by a linear model beside the transformer.

Cheng et al., "Wide & Deep Learning for Recommender Systems" (2016), for text.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BagOfTokens(nn.Module):
    """Logits from the tokens of a text: each distinct one once, by how much it says, of Euclidean length 1.

    It is fitted as a whole (`gpt_classifier.training.linear_probe`), not trained step by step: what it has are buffers.

    Args:
        vocab_size: number of token ids, V.
        num_outputs: C.

    Attributes:
        idf: `(V,)`, see `TokenLetters.weigh`.
        weight: `(V, C)`; the bias is that of the head.
    """

    idf: Tensor
    weight: Tensor

    def __init__(self, vocab_size: int, num_outputs: int) -> None:
        super().__init__()
        self.register_buffer("idf", torch.zeros(vocab_size))
        self.register_buffer("weight", torch.zeros(vocab_size, num_outputs))

    def values(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """The value of each position's token, 0 at padding and where the token came before.

        Args:
            ids: `(B, T)` token ids.
            lengths: `(B,)` real tokens of each row.

        Returns:
            `(B, T)` float32, of Euclidean length 1 in each row that has a known token.
        """
        return F.normalize(self._idf(ids, lengths), dim=1)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Logits `(B, C)`; arguments as of `values`."""
        return F.embedding_bag(
            ids.long(), self.weight, per_sample_weights=self.values(ids, lengths).to(self.weight.dtype), mode="sum"
        )

    def running(self, ids: Tensor) -> Tensor:
        """Logits of the text up to each token: `(1, T)` to `(1, T, C)`."""
        idf = self._idf(ids, torch.full((1,), ids.shape[1], device=ids.device))
        norms = idf.square().cumsum(dim=1).sqrt().clamp_min(1e-12)
        return (idf[:, :, None] * self.weight[ids.long()]).cumsum(dim=1) / norms[:, :, None]

    def _idf(self, ids: Tensor, lengths: Tensor) -> Tensor:
        real = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        order = ids.masked_fill(~real, -1).sort(dim=1, stable=True)  # equal tokens side by side, the first one first
        first = F.pad(order.values[:, 1:] != order.values[:, :-1], (1, 0), value=True)
        new = torch.empty_like(first).scatter_(1, order.indices, first)
        return self.idf[ids.long()].float() * (new & real)
