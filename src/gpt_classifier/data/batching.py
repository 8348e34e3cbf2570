"""Token rows into padded batches, one process's share of each."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from gpt_classifier.device import evaluation_tokens
from gpt_classifier.tokenizers.padding import PadTo, Part, evaluation_parts, padded


class Batch(NamedTuple):
    """Messages as tensors.

    Args:
        ids: `(B, T)` int32, right-padded.
        lengths: `(B,)` int64, real tokens of each row.
        labels: `(B, …)`, the task's targets.
        indices: `(B,)` int64, the rows' places in their split.
        split: name of the split.
        hidden: activations to go on from instead of `ids`, if there are any, see `Classifier.suffix`.
        weights: `(B,)` float32, each message's weight in the loss `mean(weights * losses)`; `None` where all are 1.
    """

    ids: Tensor
    lengths: Tensor
    labels: Tensor
    indices: Tensor
    split: str
    hidden: Tensor | None = None
    weights: Tensor | None = None


def pad(rows: Sequence[np.ndarray], length: int, pad_id: int) -> tuple[Tensor, Tensor]:
    """Right-pad token rows: `(B, length)` int32 ids and `(B,)` int64 numbers of real tokens."""
    ids, lengths = padded(rows, length, pad_id)
    return torch.from_numpy(ids), torch.from_numpy(lengths)


class TokenDataset(Dataset):
    """One split. It is asked for a whole batch at a time: `dataset[indices, length]`.

    Args:
        split: its name.
        rows: token ids of each message.
        labels: `(N, …)`, the task's target of each message.
        pad_id: what fills the rows of a batch.
        weights: of each message in the loss; `None` for 1.
    """

    def __init__(
        self,
        split: str,
        rows: list[np.ndarray],
        labels: Tensor,
        pad_id: int,
        weights: Sequence[float] | None = None,
    ) -> None:
        self.split = split
        self.rows = rows
        self.labels = labels
        self.lengths = np.array([len(row) for row in rows])
        self.pad_id = pad_id
        weighted = weights is not None and any(weight != 1 for weight in weights)
        self.weights = torch.tensor(weights, dtype=torch.float32) if weighted else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: Part) -> Batch:
        indices, length = part
        ids, lengths = pad([self.rows[i] for i in indices], length, self.pad_id)
        weights = None if self.weights is None else self.weights[indices]
        return Batch(ids, lengths, self.labels[indices], torch.tensor(indices), self.split, weights=weights)


AHEAD = 2  # batches that are announced before they are asked for


class _Batches(Sampler[Part]):
    """Batches of a split as this process sees them.

    Every process cuts the same batches and pads each to the same length, whatever its share of it is, so
    that results do not depend on the number of processes.

    Attributes:
        announce: told the rows of each batch some batches before it comes, for whoever has to fetch something.
    """

    announce: Callable[[list[int]], None] | None = None

    def __init__(self, lengths: np.ndarray, batch_size: int, pad_to: PadTo, rank: int = 0, world_size: int = 1) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.pad_to = pad_to
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[Part]:
        waiting: deque[Part] = deque()
        for part in self._parts():
            if self.announce is not None:
                self.announce(part[0])
            waiting.append(part)
            if len(waiting) > AHEAD:
                yield waiting.popleft()
        yield from waiting

    def _parts(self) -> Iterator[Part]:
        raise NotImplementedError

    def padded_length(self, indices: list[int] | np.ndarray) -> int:
        return int(self.lengths[indices].max()) if self.pad_to == "batch" else self.pad_to


class TrainBatches(_Batches):
    """Shuffled batches, a new order each epoch; messages that do not fill the last batch wait for another epoch.

    Where batches are padded to their longest message, the shuffled messages are sorted by length within groups of
    `bucket_batches` batches before they are cut into batches, and the batches of a group are shuffled again: little
    padding, and still another company for every message in each epoch.

    Args:
        lengths: tokens of each message of the split.
        batch_size: messages of one batch over all processes; a multiple of `world_size`.
        pad_to: `batch` for each batch's longest message, or a number of tokens.
        rank: this process, which takes every `world_size`-th message of a batch.
        world_size: number of processes.
        bucket_batches: batches of a group; 1 does not sort.
        seed: the order depends on it and on the epoch alone, so that a resumed run sees the same one.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        pad_to: PadTo,
        rank: int = 0,
        world_size: int = 1,
        bucket_batches: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(lengths, batch_size, pad_to, rank, world_size)
        self.bucket_batches = bucket_batches if pad_to == "batch" else 1
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths) // self.batch_size

    def _parts(self) -> Iterator[Part]:
        for batch in self._order():
            yield batch[self.rank :: self.world_size].tolist(), self.padded_length(batch)

    def _order(self) -> Iterator[np.ndarray]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(len(self.lengths))[: len(self) * self.batch_size]
        for start in range(0, len(order), self.bucket_batches * self.batch_size):
            group = order[start : start + self.bucket_batches * self.batch_size]
            if self.bucket_batches > 1:
                group = group[np.argsort(self.lengths[group], kind="stable")]
            batches = group.reshape(-1, self.batch_size)
            yield from batches[random.permutation(len(batches))] if self.bucket_batches > 1 else batches


EVALUATION_TOKENS = evaluation_tokens("cpu")  # of a batch of messages of like length, unless the device wants more


class EvaluationBatches(_Batches):
    """All messages once, cut as `evaluation_parts` does; processes take turns batch by batch.

    Every process makes the same number of steps: one that runs out repeats the first batch, and whoever gathers
    the results keeps one for each index.

    Args:
        lengths: tokens of each message of the split.
        batch_size: messages of a batch that is not cut by length.
        pad_to: `batch` for each batch's longest message, or a number of tokens.
        rank: this process.
        world_size: number of processes.
        in_order: as the messages come.
        budget: tokens of a batch that is cut by length, padding included; a longer message is a batch of its own.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        pad_to: PadTo,
        rank: int = 0,
        world_size: int = 1,
        in_order: bool = False,
        budget: int = EVALUATION_TOKENS,
    ) -> None:
        super().__init__(lengths, batch_size, pad_to, rank, world_size)
        self.batches = list(evaluation_parts(lengths, batch_size, pad_to, in_order, budget))

    def __len__(self) -> int:
        return -(-len(self.batches) // self.world_size)

    def _parts(self) -> Iterator[Part]:
        for turn in range(len(self)):
            place = turn * self.world_size + self.rank
            yield self.batches[place if place < len(self.batches) else 0]
