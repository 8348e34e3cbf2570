"""Activations of the frozen blocks, computed once for each distinct message and kept for later runs.

They are kept on disk (`disk_cache.py`), or only in the memory of this process (`memory_cache.py`).
"""

import hashlib
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from gpt_classifier.activations.cache_folder import GB, PrefixKey
from gpt_classifier.activations.cost import seconds_of, smaller_settings, told, told_seconds
from gpt_classifier.activations.disk_cache import DiskCache, Shard, tensor_bytes
from gpt_classifier.activations.memory_cache import MemoryCache
from gpt_classifier.activations.read_ahead import ReadAhead
from gpt_classifier.activations.storage import (
    SHARD_BYTES,
    computed_type,
    disk_bytes,
    disk_gb,
    kept_type,
    kept_width,
    message_bytes,
    pack,
    unpack,
)
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
        dtype: type that activations are kept in, one of `gpt_classifier.schema.CACHE_TYPES`; `auto` is the one that the
            run computes in.
    """

    enabled: bool
    dir: str | None
    max_gb: float
    max_disk_gb: float
    dtype: str = "auto"

    @property
    def folder(self) -> Path | None:
        return None if self.dir is None else Path(self.dir).expanduser()

    @property
    def limit(self) -> tuple[str, float]:
        """The field that bounds what is kept, and its value: a run that needs more keeps nothing."""
        return ("max_gb", self.max_gb) if self.dir is None else ("max_disk_gb", self.max_disk_gb)

    def stored(self, computed: str) -> str | None:
        """The type that a key names as `stored`: `None` for the one that the run computes in."""
        return None if self.dtype in ("auto", computed) else self.dtype


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
        self._messages: dict[str, list[Tensor]] = {}  # of each split, (positions, kept_width) each
        self._ahead: ReadAhead | None = None

    @property
    def folder(self) -> Path | None:
        """The key's directory, if the cache is on disk."""
        return None if self.options.folder is None else self.options.folder / self.key.name

    def size_gb(self, splits: dict[str, list[np.ndarray]]) -> float:
        """What all distinct messages take in the cache, in 10^9 bytes."""
        return disk_gb(self.key, map(len, _distinct(splits).values()))

    def too_large(self, splits: dict[str, list[np.ndarray]]) -> str:
        """Why the messages can't be kept, and what could be; empty if they can."""
        lengths = [len(row) for row in _distinct(splits).values()]
        size, (option, limit) = disk_gb(self.key, lengths), self.options.limit
        if size <= limit:
            return ""
        less = smaller_settings(self.key, lengths)
        return f"it would take {told(size)}, more than cache.{option}={limit:g}{f'. Less: {less}' if less else ''}"

    def fill(
        self,
        splits: dict[str, list[np.ndarray]],
        model: Classifier,
        pad_id: int,
        rank: int = 0,
        world_size: int = 1,
        agree: Callable[[bool], bool] = lambda decision: decision,
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
            agree: waits for all of them, and says whether all were given true.
        """
        began = time.perf_counter()
        if self.key.weights is None:
            self.key = replace(self.key, weights=weights_hash(model))
        distinct = _distinct(splits)
        cache = self._cache(distinct)
        found = cache.find(distinct)
        lacking = len(found) < len(distinct)
        agree(True)  # all have looked: whether anything is missing is the same for all
        with ExitStack() as stack:
            alone = not lacking or rank > 0
            while not agree(alone):  # again and again: another run may take longer than processes wait for each other
                alone = alone or cache.be_alone(stack)
            found |= cache.find(distinct.keys() - found.keys())  # another run's, if this one had to wait for it
            missing = _missing(distinct, found)
            cache.reserve(disk_bytes(self.key, map(len, missing)) if missing else 0)
            kept = len(found)
            agree(True)  # nobody writes before everybody has looked, so that the shares fit together
            share = missing[rank::world_size]
            if disk_bytes(self.key, map(len, missing)) > SHARD_BYTES:
                self._tell_cost(missing, share, model, pad_id, cache)
            found |= self._compute(share, model, pad_id, cache)
            if world_size > 1:
                agree(True)
                if missing:
                    found |= cache.find(distinct.keys() - found.keys())
                    found |= self._compute(_missing(distinct, found), model, pad_id, cache)
        self._messages = {name: [found[row.tobytes()] for row in rows] for name, rows in splits.items()}
        self._ahead = ReadAhead(self._gather) if isinstance(cache, DiskCache) and cache.mapped else None
        log.info(
            "prefix   %d distinct messages through %s: %d from %s, %d computed, %.1f s%s",
            len(distinct),
            f"{self.key.depth} frozen blocks" if self.key.pooling is None else "the frozen backbone",
            kept,
            cache,
            len(missing),
            time.perf_counter() - began,
            f"; read as they are needed, as they are more than cache.max_gb={self.options.max_gb:g}"
            if self._ahead
            else "",
        )

    def gather(self, split: str, indices: Sequence[int]) -> Tensor:
        """Activations of some messages of a split as they are kept, for `unpack`, on the CPU.

        Returns:
            `(B, T, kept_width)`, padded with zeros to the longest of them, or `(B, kept_width)` where pooling is done.
        """
        return self._gather(split, indices) if self._ahead is None else self._ahead.take(split, indices)

    def unpack(self, hidden: Tensor) -> Tensor:
        """What `gather` gave, on any device, as float32 `(B, T, D)`, or `(B, D)` where pooling is done."""
        return unpack(hidden, self.key)

    def announce(self, split: str, indices: Sequence[int]) -> None:
        """Messages that are going to be gathered: what is mapped from disk begins to be read."""
        if self._ahead is not None:
            self._ahead.announce(split, indices)

    def close(self) -> None:
        """End reading ahead until the next announcement."""
        if self._ahead is not None:
            self._ahead.close()

    def _gather(self, split: str, indices: Sequence[int]) -> Tensor:
        messages = self._messages[split]
        chosen = [messages[i] for i in indices]
        if self.key.pooling is not None:
            return torch.cat(chosen)
        return torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True)

    def _cache(self, distinct: dict[bytes, np.ndarray]) -> DiskCache | MemoryCache:
        options = self.options
        if options.folder is None:
            return MemoryCache(self.key, int(options.max_gb * GB))
        mapped = disk_bytes(self.key, map(len, distinct.values())) > options.max_gb * GB
        return DiskCache(self.key, options.folder, int(options.max_disk_gb * GB), mapped)

    def _compute(
        self, rows: list[np.ndarray], model: Classifier, pad_id: int, cache: DiskCache | MemoryCache
    ) -> dict[bytes, Tensor]:
        computed: dict[bytes, Tensor] = {}
        if not rows:
            return computed
        hold_frozen(model, computed_type(self.key))
        total = sum(len(row) for row in rows)
        with tqdm(
            total=total, unit=" tokens", desc="Frozen blocks", leave=False, disable=not sys.stderr.isatty()
        ) as bar:
            for group in self._groups(rows):
                computed |= cache.keep(self._compute_shard(group, model, pad_id, bar))
        return computed

    @torch.no_grad()
    def _tell_cost(
        self,
        missing: list[np.ndarray],
        share: list[np.ndarray],
        model: Classifier,
        pad_id: int,
        cache: DiskCache | MemoryCache,
    ) -> None:
        hold_frozen(model, computed_type(self.key))
        lengths = [len(row) for row in missing]
        batches = list(self._batches(share, model)) if share else []
        seconds = seconds_of(batches, lambda batch: self._pass(batch, model, pad_id))
        less = smaller_settings(self.key, lengths)
        log.info(
            "prefix   computing %s messages of %s tokens%s; they take %s%s",
            f"{len(missing):,}",
            f"{sum(lengths):,}",
            f", about {told_seconds(seconds)}" if seconds == seconds else "",
            f"{told(disk_gb(self.key, lengths))} in {cache}",
            f". Less: {less}" if less else "",
        )

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
        activations = torch.empty(ends[-1], kept_width(self.key), dtype=kept_type(self.key))
        for batch in self._batches(rows, model):
            x = self._pass(batch, model, pad_id)
            for row, part in zip(batch, x, strict=True):
                target = activations[slices[row.tobytes()]]  # (positions, kept_width)
                target.copy_(part[: len(target)] if part.dim() == 2 else part[None])
            bar.update(sum(len(row) for row in batch))
        return Shard(activations, slices)

    def _batches(self, rows: list[np.ndarray], model: Classifier) -> Iterator[list[np.ndarray]]:
        return _batches(rows, self.key.padded_length, pass_tokens(model.head.weight.device))

    def _pass(self, batch: list[np.ndarray], model: Classifier, pad_id: int) -> Tensor:
        """Activations of rows sorted by length, as they are kept, on the CPU."""
        device = model.head.weight.device
        ids, lengths = pad(batch, self.key.padded_length or len(batch[-1]), pad_id)
        return pack(model.prefix(ids.to(device), lengths.to(device), self.key.depth), self.key).cpu()


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
