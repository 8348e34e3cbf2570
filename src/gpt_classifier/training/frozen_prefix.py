"""Activations of the frozen blocks, computed once for each distinct message and kept across runs.

A folder of the cache stands for everything that determines the activations but the message itself; its name is the
hash of that. In it lie shards: safetensors files with some messages' token ids and activations, written under another
name and renamed when whole, and checked by a checksum when read. A shard that does not fit is set aside.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from gpt_classifier.data.batching import pad
from gpt_classifier.models.classifier import GPTClassifier
from gpt_classifier.models.freezing import hold_frozen

log = logging.getLogger(__name__)

FORMAT = 3  # of shards and keys: a change makes older ones foreign
SHARD_BYTES = 32 * 2**20  # written at once, through a copy
BATCH_TOKENS = 2048  # of one pass, as many as keep matrix products at full speed

GB = 10**9


@dataclass(frozen=True)
class CacheOptions:
    """What a user may say of the cache.

    Args:
        enabled: `False` computes all blocks at every pass, as other trainers do.
        dir: folder that is kept across runs.
        max_gb: activations up to this size (10^9 bytes) are held in memory; larger ones are mapped from disk.
        max_disk_gb: beyond this size nothing is cached; below it, the folders that were not used for longest
            make room.
    """

    enabled: bool
    dir: str
    max_gb: float
    max_disk_gb: float

    @property
    def folder(self) -> Path:
        return Path(self.dir).expanduser()


@dataclass(frozen=True)
class PrefixKey:
    """All that determines activations, but the tokens of the message.

    Args:
        weights: hash of the content of the frozen weights; `None` as long as it is not known.
        backbone: sizes, heads among them.
        depth: how many blocks are done; see `GPTClassifier`.
        causal: whether tokens see earlier ones only.
        dtype: that products are computed and activations are kept in.
        pooling: its name where the depth includes it, else `None`.
        padded_length: where pooling reads padding, the length that each message is padded to, else `None`.
        pad_id: the token that pads, where padding is read.
        format: of the files.
    """

    weights: str | None
    backbone: dict[str, Any]
    depth: int
    causal: bool
    dtype: str
    pooling: str | None
    padded_length: int | None
    pad_id: int | None
    format: int = FORMAT

    def positions(self, tokens: int) -> int:
        """How many activations a message of so many tokens has."""
        if self.pooling is not None:
            return 1
        return self.padded_length or tokens

    @property
    def name(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:32]


def weights_hash(model: GPTClassifier) -> str:
    """sha256 of the frozen parameters, for weights that do not come from a file."""
    digest = hashlib.sha256()
    for name, parameter in model.backbone.named_parameters():
        if not parameter.requires_grad:
            digest.update(name.encode())
            digest.update(_bytes(parameter.detach().cpu().contiguous()))
    return digest.hexdigest()


@dataclass
class Shard:
    """Rows of token ids and where their activations lie.

    Args:
        activations: `(positions, D)`.
        slices: for each row of token ids, as bytes, its part of the positions.
    """

    activations: Tensor
    slices: dict[bytes, slice]


class FrozenPrefix:
    """The activations of a run's messages.

    Args:
        key: what determines them.
        options: where they are kept, and how much of them.
    """

    def __init__(self, key: PrefixKey, options: CacheOptions) -> None:
        self.key = key
        self.options = options
        self._rows: dict[str, list[bytes]] = {}  # of each split, by message index
        self._found: dict[bytes, Tensor] = {}

    @property
    def folder(self) -> Path:
        return self.options.folder / self.key.name

    def size_gb(self, splits: dict[str, list[np.ndarray]]) -> float:
        """Size of the activations of all distinct messages."""
        distinct = {row.tobytes(): row for rows in splits.values() for row in rows}
        positions = sum(self.key.positions(len(row)) for row in distinct.values())
        return positions * self.key.backbone["n_embd"] * _dtype(self.key).itemsize / GB

    def fill(
        self,
        splits: dict[str, list[np.ndarray]],
        model: GPTClassifier,
        pad_id: int,
        rank: int = 0,
        world_size: int = 1,
        barrier: Callable[[], None] = lambda: None,
    ) -> None:
        """Find or compute the activations of all messages.

        With several processes each computes its share and reads the others' from the folder; what it does not find
        there, as on machines that share no disk, it computes itself.

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
        distinct = {row.tobytes(): row for rows in splits.values() for row in rows}
        size = self.size_gb(splits)
        in_memory = size <= self.options.max_gb
        self._rows = {name: [row.tobytes() for row in rows] for name, rows in splits.items()}
        self._make_room(size)
        self._take_shards(distinct, in_memory)
        missing = self._missing(distinct)
        found = len(distinct) - len(missing)
        barrier()  # nobody writes before everybody has looked, so that the shares fit together
        self._compute(missing[rank::world_size], model, pad_id, in_memory)
        if world_size > 1:
            barrier()
            if missing:
                self._take_shards(distinct, in_memory)
                self._compute(self._missing(distinct), model, pad_id, in_memory)
        log.info(
            "prefix   %d distinct messages through %s: %d from %s, %d computed, %.1f s",
            len(distinct),
            f"{self.key.depth} frozen blocks" if self.key.pooling is None else "the frozen backbone",
            found,
            self.folder,
            len(missing),
            time.perf_counter() - began,
        )

    def gather(self, split: str, indices: Sequence[int]) -> Tensor:
        """Activations of some messages of a split, on the CPU.

        Returns:
            `(B, T, D)`, padded with zeros to the longest of them, or `(B, D)` where pooling is done.
        """
        rows = self._rows[split]
        parts = [self._found[rows[i]] for i in indices]
        if self.key.pooling is not None:
            return torch.cat(parts)
        return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)

    def _missing(self, distinct: dict[bytes, np.ndarray]) -> list[np.ndarray]:
        return sorted((row for name, row in distinct.items() if name not in self._found), key=len)

    def _take(self, shard: Shard, wanted: dict[bytes, np.ndarray], in_memory: bool) -> None:
        for name, part in shard.slices.items():
            if name in wanted and name not in self._found:
                activations = shard.activations[part]
                self._found[name] = activations.clone() if in_memory else activations

    def _take_shards(self, wanted: dict[bytes, np.ndarray], in_memory: bool) -> None:
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                shard = read_shard(path, self.key)
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                log.warning("%s is damaged or not ours (%s); its messages are computed again", path, error)
                path.unlink(missing_ok=True)
                continue
            self._take(shard, wanted, in_memory)

    def _compute(self, rows: list[np.ndarray], model: GPTClassifier, pad_id: int, in_memory: bool) -> None:
        if not rows:
            return
        hold_frozen(model, _dtype(self.key))
        total = sum(len(row) for row in rows)
        with tqdm(
            total=total, unit=" tokens", desc="Frozen blocks", leave=False, disable=not sys.stderr.isatty()
        ) as bar:
            for group in self._groups(rows):
                shard = self._compute_shard(group, model, pad_id, bar)
                path = self._write(shard)
                if path is not None and not in_memory:
                    shard = read_shard(path, self.key)  # mapped from now on
                # an in-memory shard is whole and ours alone: its slices may stay views
                self._found.update({name: shard.activations[part] for name, part in shard.slices.items()})

    def _groups(self, rows: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
        """Rows whose activations make one shard."""
        width = self.key.backbone["n_embd"] * _dtype(self.key).itemsize
        group: list[np.ndarray] = []
        size = 0
        for row in rows:
            row_size = self.key.positions(len(row)) * width
            if group and size + row_size > SHARD_BYTES:
                yield group
                group, size = [], 0
            group.append(row)
            size += row_size
        yield group

    @torch.no_grad()
    def _compute_shard(self, rows: list[np.ndarray], model: GPTClassifier, pad_id: int, bar: tqdm) -> Shard:
        ends = np.cumsum([self.key.positions(len(row)) for row in rows]).tolist()
        starts = [0, *ends[:-1]]
        slices = {row.tobytes(): slice(a, b) for row, a, b in zip(rows, starts, ends, strict=True)}
        activations = torch.empty(ends[-1], self.key.backbone["n_embd"], dtype=_dtype(self.key))
        device = model.head.weight.device
        for batch in _batches(rows, self.key.padded_length):
            T = self.key.padded_length or len(batch[-1])
            ids, lengths = pad(batch, T, pad_id)
            x = model.prefix(ids.to(device), lengths.to(device), self.key.depth).to("cpu", activations.dtype)
            for row, part in zip(batch, x, strict=True):
                target = activations[slices[row.tobytes()]]  # (positions, D)
                target.copy_(part[: len(target)] if part.dim() == 2 else part[None])
            bar.update(sum(len(row) for row in batch))
        return Shard(activations, slices)

    def _write(self, shard: Shard) -> Path | None:
        """Appears whole or not at all; where the disk does not take it, the run goes on without."""
        path = self.folder / f"{_ids_hash(shard)}.safetensors"
        part = path.with_name(f"{path.stem}.{os.getpid()}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_shard(shard, self.key, part)
            os.replace(part, path)
        except (OSError, SafetensorError) as error:
            log.warning("activations can't be kept in %s (%s); the next run computes them again", self.folder, error)
            with contextlib.suppress(OSError):
                part.unlink()
            return None
        return path

    def _make_room(self, needed_gb: float) -> None:
        """Remove the folders that were not used for longest, until all fit into `max_disk_gb`."""
        if self.folder.exists():
            os.utime(self.folder)
        others = [entry for entry in list_cache(self.options.folder) if entry.folder != self.folder]
        others.sort(key=lambda entry: entry.last_used)
        excess = needed_gb + sum(entry.gb for entry in others) - self.options.max_disk_gb
        for entry in others:
            if excess <= 0:
                break
            log.info("prefix   removing %s to make room (cache.max_disk_gb)", entry.folder)
            shutil.rmtree(entry.folder, ignore_errors=True)
            excess -= entry.gb


def _dtype(key: PrefixKey) -> torch.dtype:
    return getattr(torch, key.dtype)


def _batches(rows: list[np.ndarray], padded_length: int | None) -> Iterator[list[np.ndarray]]:
    """Rows sorted by length, as many at a time as make `BATCH_TOKENS` once padded to the longest."""
    batch: list[np.ndarray] = []
    for row in rows:
        if batch and (len(batch) + 1) * (padded_length or len(row)) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    yield batch


def _ids_hash(shard: Shard) -> str:
    return hashlib.sha256(b"|".join(shard.slices)).hexdigest()[:32]


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.view(torch.uint8).numpy()).cast("B")  # type: ignore[arg-type]


def _checksum(tensors: Sequence[Tensor]) -> str:
    crc = 0
    for tensor in tensors:
        crc = zlib.crc32(_bytes(tensor), crc)
    return str(crc)


def save_shard(shard: Shard, key: PrefixKey, path: Path) -> None:
    ids = torch.frombuffer(bytearray(b"".join(shard.slices)), dtype=torch.int32)
    lengths = torch.tensor([len(name) // 4 for name in shard.slices])  # token ids are int32
    tensors = {"ids": ids, "lengths": lengths, "activations": shard.activations}
    metadata = {"key": json.dumps(asdict(key), sort_keys=True), "crc32": _checksum(list(tensors.values()))}
    save_file(tensors, path, metadata)


def read_shard(path: Path, key: PrefixKey) -> Shard:
    """A shard, its activations mapped from the file.

    Raises:
        ValueError: it is of another key, or its checksum does not fit. OSError, KeyError, SafetensorError: it is no
            shard at all.
    """
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("key") != json.dumps(asdict(key), sort_keys=True):
            raise ValueError("it is of other weights or settings")
        tensors = {name: file.get_tensor(name) for name in ("ids", "lengths", "activations")}
    if _checksum(list(tensors.values())) != metadata["crc32"]:
        raise ValueError("its checksum does not fit")
    rows = tensors["ids"].split(tensors["lengths"].tolist())
    counts = [key.positions(len(row)) for row in rows]
    ends = np.cumsum(counts).tolist()
    slices = {row.numpy().tobytes(): slice(b - n, b) for row, b, n in zip(rows, ends, counts, strict=True)}
    return Shard(tensors["activations"], slices)


@dataclass(frozen=True)
class CacheEntry:
    """One folder of the cache.

    Args:
        folder: where it is.
        key: what determines its activations, or `{}` where no shard tells.
        gb: its size in 10^9 bytes.
        last_used: seconds since 1970.
    """

    folder: Path
    key: dict[str, Any]
    gb: float
    last_used: float


def list_cache(folder: Path) -> list[CacheEntry]:
    """What is in a cache folder; folders that are not the cache's are not listed."""
    entries = []
    for entry in sorted(folder.glob("*")) if folder.is_dir() else []:
        if not entry.is_dir() or len(entry.name) != 32:
            continue
        files = [file for file in entry.iterdir() if file.suffix in (".safetensors", ".part")]
        key: dict[str, Any] = {}
        for file in files:
            try:
                with safe_open(file, framework="pt") as opened:
                    key = json.loads((opened.metadata() or {})["key"])
                    break
            except (OSError, KeyError, ValueError, SafetensorError):
                continue
        size = sum(file.stat().st_size for file in files if file.exists())
        entries.append(CacheEntry(entry, key, size / GB, entry.stat().st_mtime))
    return entries
