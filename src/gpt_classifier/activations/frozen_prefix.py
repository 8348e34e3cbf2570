"""Activations of the frozen blocks, computed once for each distinct message and kept for later runs.

They are kept on disk (`disk_cache.py`), or only in the memory of this process (`memory_cache.py`).
"""

import hashlib
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from gpt_classifier.activations.cache_folder import GB, PrefixKey
from gpt_classifier.activations.disk_cache import (
    SHARD_BYTES,
    DiskCache,
    Shard,
    disk_bytes,
    message_bytes,
    tensor_bytes,
    torch_type,
)
from gpt_classifier.activations.memory_cache import MemoryCache
from gpt_classifier.data.batching import pad
from gpt_classifier.device import pass_tokens
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.freezing import hold_frozen

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheOptions:
    """What a user sets of the cache.

    Args:
        enabled: `False` computes all blocks at every pass, as other trainers do.
        dir: directory that is kept across runs. `None` writes nothing to disk: activations stay in memory, for later
            runs of the same process.
        max_gb: with a directory, activations of a run up to this size (10^9 bytes) are read into memory, and larger
            ones are mapped from disk. Without one, the size of all activations that stay in memory, of all runs.
        max_disk_gb: size of everything in the directory. The least recently used shards are deleted to make room, and
            a run that needs more keeps nothing.
    """

    enabled: bool
    dir: str | None
    max_gb: float
    max_disk_gb: float

    @property
    def folder(self) -> Path | None:
        return None if self.dir is None else Path(self.dir).expanduser()

    @property
    def limit(self) -> tuple[str, float]:
        """The field that bounds what is kept, and its value: a run that needs more keeps nothing."""
        return ("max_gb", self.max_gb) if self.dir is None else ("max_disk_gb", self.max_disk_gb)


def weights_hash(model: Classifier) -> str:
    """sha256 of the frozen parameters, for weights that do not come from a file."""
    digest = hashlib.sha256()
    for name, parameter in model.backbone.named_parameters():
        if not parameter.requires_grad:
            digest.update(name.encode())
            digest.update(tensor_bytes(parameter.detach().cpu().contiguous()))
    return digest.hexdigest()


class FrozenPrefix:
    """The activations of a run's messages.

    Args:
        key: everything they depend on, except the token ids.
        options: where they are kept, and how much of them.
    """

    def __init__(self, key: PrefixKey, options: CacheOptions) -> None:
        self.key = key
        self.options = options
        self._messages: dict[str, list[Tensor]] = {}  # of each split, (positions, D) each

    @property
    def folder(self) -> Path | None:
        """The key's directory, if the cache is on disk."""
        return None if self.options.folder is None else self.options.folder / self.key.name

    def size_gb(self, splits: dict[str, list[np.ndarray]]) -> float:
        """What all distinct messages take in the cache, in 10^9 bytes."""
        return disk_bytes(self.key, _distinct(splits).values()) / GB

    def fill(
        self,
        splits: dict[str, list[np.ndarray]],
        model: Classifier,
        pad_id: int,
        rank: int = 0,
        world_size: int = 1,
        barrier: Callable[[], None] = lambda: None,
    ) -> None:
        """Find or compute the activations of all messages.

        Of runs at the same time one computes, and the others wait for it. With several processes each computes its
        share and reads the others' from the directory; what it does not find there, as on machines that share no disk,
        it computes itself.

        Args:
            splits: token rows of each split, none of them empty.
            model: on its device; matrix products in the key's type are the caller's to arrange (autocast).
            pad_id: token that pads a batch.
            rank: of this process.
            world_size: number of processes.
            barrier: waits for all of them.
        """
        began = time.perf_counter()
        if self.key.weights is None:
            self.key = replace(self.key, weights=weights_hash(model))
        distinct = _distinct(splits)
        cache = self._cache(distinct)
        found = cache.find(distinct)
        lacking = len(found) < len(distinct)
        barrier()  # all have looked: whether anything is missing is the same for all
        with cache.alone() if lacking and rank == 0 else nullcontext():
            barrier()
            found |= cache.find(distinct.keys() - found.keys())  # another run's, if this one had to wait for it
            missing = _missing(distinct, found)
            cache.reserve(disk_bytes(self.key, missing) if missing else 0)
            kept = len(found)
            barrier()  # nobody writes before everybody has looked, so that the shares fit together
            found |= self._compute(missing[rank::world_size], model, pad_id, cache)
            if world_size > 1:
                barrier()
                if missing:
                    found |= cache.find(distinct.keys() - found.keys())
                    found |= self._compute(_missing(distinct, found), model, pad_id, cache)
        self._messages = {name: [found[row.tobytes()] for row in rows] for name, rows in splits.items()}
        log.info(
            "prefix   %d distinct messages through %s: %d from %s, %d computed, %.1f s",
            len(distinct),
            f"{self.key.depth} frozen blocks" if self.key.pooling is None else "the frozen backbone",
            kept,
            cache,
            len(missing),
            time.perf_counter() - began,
        )

    def gather(self, split: str, indices: Sequence[int]) -> Tensor:
        """Activations of some messages of a split, on the CPU.

        Returns:
            `(B, T, D)`, padded with zeros to the longest of them, or `(B, D)` where pooling is done.
        """
        messages = self._messages[split]
        chosen = [messages[i] for i in indices]
        if self.key.pooling is not None:
            return torch.cat(chosen)
        return torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True)

    def _cache(self, distinct: dict[bytes, np.ndarray]) -> DiskCache | MemoryCache:
        options = self.options
        if options.folder is None:
            return MemoryCache(self.key, int(options.max_gb * GB))
        mapped = disk_bytes(self.key, distinct.values()) > options.max_gb * GB
        return DiskCache(self.key, options.folder, int(options.max_disk_gb * GB), mapped)

    def _compute(
        self, rows: list[np.ndarray], model: Classifier, pad_id: int, cache: DiskCache | MemoryCache
    ) -> dict[bytes, Tensor]:
        computed: dict[bytes, Tensor] = {}
        if not rows:
            return computed
        hold_frozen(model, torch_type(self.key))
        total = sum(len(row) for row in rows)
        with tqdm(
            total=total, unit=" tokens", desc="Frozen blocks", leave=False, disable=not sys.stderr.isatty()
        ) as bar:
            for group in self._groups(rows):
                computed |= cache.keep(self._compute_shard(group, model, pad_id, bar))
        return computed

    def _groups(self, rows: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
        """Rows whose activations make one shard."""
        group: list[np.ndarray] = []
        size = 0
        for row in rows:
            row_size = message_bytes(self.key, len(row))
            if group and size + row_size > SHARD_BYTES:
                yield group
                group, size = [], 0
            group.append(row)
            size += row_size
        yield group

    @torch.no_grad()
    def _compute_shard(self, rows: list[np.ndarray], model: Classifier, pad_id: int, bar: tqdm) -> Shard:
        ends = np.cumsum([self.key.positions(len(row)) for row in rows]).tolist()
        starts = [0, *ends[:-1]]
        slices = {row.tobytes(): slice(a, b) for row, a, b in zip(rows, starts, ends, strict=True)}
        activations = torch.empty(ends[-1], self.key.width, dtype=torch_type(self.key))
        device = model.head.weight.device
        for batch in _batches(rows, self.key.padded_length, pass_tokens(device)):
            T = self.key.padded_length or len(batch[-1])
            ids, lengths = pad(batch, T, pad_id)
            x = model.prefix(ids.to(device), lengths.to(device), self.key.depth).to("cpu", activations.dtype)
            for row, part in zip(batch, x, strict=True):
                target = activations[slices[row.tobytes()]]  # (positions, D)
                target.copy_(part[: len(target)] if part.dim() == 2 else part[None])
            bar.update(sum(len(row) for row in batch))
        return Shard(activations, slices)


def _distinct(splits: dict[str, list[np.ndarray]]) -> dict[bytes, np.ndarray]:
    return {row.tobytes(): row for rows in splits.values() for row in rows}


def _missing(distinct: dict[bytes, np.ndarray], found: dict[bytes, Tensor]) -> list[np.ndarray]:
    return sorted((row for name, row in distinct.items() if name not in found), key=len)


def _batches(rows: list[np.ndarray], padded_length: int | None, tokens: int) -> Iterator[list[np.ndarray]]:
    """Rows sorted by length, as many at a time as make so many tokens once padded to the longest."""
    batch: list[np.ndarray] = []
    for row in rows:
        if batch and (len(batch) + 1) * (padded_length or len(row)) > tokens:
            yield batch
            batch = []
        batch.append(row)
    yield batch
