"""What a classifier said of a whole split: gathered from batches and processes, and what is kept of it."""

from typing import Any, NamedTuple

import torch
import torch.distributed
from torch import Tensor

from gpt_classifier.tasks import Metrics, Task

MOST_KEPT = 10_000_000
"""Texts times classes up to which logits are kept after they were measured: 40 MB for each split."""


class SplitPredictions(NamedTuple):
    """What is kept of a measured split.

    Args:
        targets: `(N, …)`.
        predicted: `(N, …)`, as targets.
        confidence: `(N,)`, the largest probability of each message.
        losses: `(N,)` in nats.
        logits: `(N, C)` float32; `None` where these are more than `MOST_KEPT` numbers.
    """

    targets: Tensor
    predicted: Tensor
    confidence: Tensor
    losses: Tensor
    logits: Tensor | None

    @classmethod
    def of(cls, task: Task, logits: Tensor, targets: Tensor) -> "SplitPredictions":
        """The predictions behind logits `(N, C)` of any precision."""
        logits = logits.float()
        confidence = task.probabilities(logits).amax(dim=-1)
        return cls(targets, task.decide(logits), confidence, task.losses(logits, targets), logits)

    def metrics(self, task: Task) -> Metrics:
        """Everything that is measured of them."""
        return task.metrics(self.targets, self.predicted, self.losses, self.logits)


class Outputs:
    """What is kept of a split while its batches are measured, each put where it belongs.

    Args:
        task: what is predicted.
        messages: N, of the split in all processes.
    """

    def __init__(self, task: Task, messages: int) -> None:
        self.task = task
        self.known = torch.zeros(messages, dtype=torch.bool)
        self._kept: SplitPredictions | None = None

    def add(self, indices: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Take a batch in: places in the split `(B,)`, logits `(B, C)` of any precision, targets `(B, …)`."""
        self._put(indices, SplitPredictions.of(self.task, logits, targets))

    def _put(self, indices: Tensor, batch: SplitPredictions) -> None:
        if self._kept is None:  # of what no batch of this process fills, the system gives no memory
            number = len(self.known)
            if batch.logits is not None and number * batch.logits[0].numel() > MOST_KEPT:
                batch = batch._replace(logits=None)
            empty = (None if part is None else part.new_empty((number, *part.shape[1:])) for part in batch)
            self._kept = SplitPredictions(*empty)  # type: ignore[arg-type] # None stays None
        for all_of_it, part in zip(self._kept, batch, strict=True):
            if all_of_it is not None and part is not None:
                all_of_it[indices] = part
        self.known[indices] = True

    def gather(self, world_size: int) -> SplitPredictions:
        """The predictions of all processes in the order of the split, each message once."""
        if world_size > 1:
            own = self.known.nonzero().flatten()
            shares: list[Any] = [None] * world_size
            torch.distributed.all_gather_object(shares, (own, self._chosen(own)))
            for indices, share in shares:
                if len(indices):
                    self._put(indices, SplitPredictions(*share))
        assert self._kept is not None, "nothing was measured"
        return self._kept if self.known.all() else SplitPredictions(*self._chosen(self.known))

    def _chosen(self, rows: Tensor) -> list[Any]:
        """As a list, which processes exchange."""
        return [None if part is None else part[rows] for part in self._kept] if self._kept else []
