"""What a classifier said of a whole split: gathered from batches and processes, and what is kept of it."""

from typing import Any, NamedTuple

import torch
import torch.distributed
from torch import Tensor

from gpt_classifier.tasks import Task, in_parts

MOST_KEPT = 10_000_000
"""Texts times classes up to which logits are kept after they were measured: 40 MB for each split."""


COPIED = 2**18  # numbers at a time that are made float32


class SplitPredictions(NamedTuple):
    """What is kept of a measured split.

    Args:
        targets: `(N, …)`.
        predicted: `(N, …)`, as targets.
        confidence: `(N,)`, the largest probability of each message.
        logits: `(N, C)`; `None` where these are more than `MOST_KEPT` numbers.
    """

    targets: Tensor
    predicted: Tensor
    confidence: Tensor
    logits: Tensor | None


def keep(task: Task, logits: Tensor, targets: Tensor) -> SplitPredictions:
    """The predictions behind logits `(N, C)`."""
    confidence = torch.cat([task.probabilities(logits[part]).amax(dim=-1) for part in in_parts(logits)])
    return SplitPredictions(targets, task.decide(logits), confidence, logits if logits.numel() <= MOST_KEPT else None)


class Outputs:
    """Logits and targets of a split, each batch put where it belongs: nothing is copied a second time.

    Args:
        messages: N, of the split in all processes.
    """

    def __init__(self, messages: int) -> None:
        self.known = torch.zeros(messages, dtype=torch.bool)
        self.logits = self.targets = torch.empty(0)

    def add(self, indices: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Take a batch in: places in the split `(B,)`, logits `(B, C)` of any precision, targets `(B, …)`."""
        if not self.known.any():  # of what no batch of this process fills, the system gives no memory
            self.logits = torch.empty((len(self.known), *logits.shape[1:]), dtype=torch.float32)
            self.targets = torch.empty((len(self.known), *targets.shape[1:]), dtype=targets.dtype)
        for rows in in_parts(logits, COPIED):  # a float32 copy of a whole batch of many classes would be large
            self.logits[indices[rows]] = logits[rows].float()
        self.targets[indices] = targets
        self.known[indices] = True

    def gather(self, world_size: int) -> tuple[Tensor, Tensor]:
        """Logits `(N, C)` and targets `(N, …)` of all processes in the order of the split, each message once."""
        if world_size > 1:
            own = self.known.nonzero().flatten()
            shares: list[Any] = [None] * world_size
            torch.distributed.all_gather_object(shares, (own, self.logits[own], self.targets[own]))
            for share in shares:
                self.add(*share)
        if self.known.all():
            return self.logits, self.targets
        return self.logits[self.known], self.targets[self.known]
