"""Activations in shards on disk, kept across runs and shared by processes.

A shard is a safetensors file of some messages: `ids` (all token ids in a row, int32), `lengths` (tokens of each
message, int64), `checksums` (CRC-32 of each message's activations, int64) and `activations` (positions, D, or what
`storage.pack` makes of them). Its metadata hold the key and the CRC-32 of its index, the first three. A reader needs
the index alone to know which messages it wants; of the activations it reads and verifies only theirs.
"""

import contextlib
import hashlib
import logging
import os
import uuid
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gpt_classifier.activations.cache_folder import (
    GB,
    PART,
    SHARD,
    PrefixKey,
    TensorHeader,
    delete,
    files_of,
    lock,
    make_room,
    read_header,
)
from gpt_classifier.activations.storage import kept_type, kept_width

log = logging.getLogger(__name__)

INDEX = ("ids", "lengths", "checksums")
SAFETENSORS_TYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "int8": "I8"}
WRITE_ATTEMPTS = 3  # another process may delete the directory between its creation and the file's


@dataclass
class Shard:
    """Activations of some messages.

    Args:
        activations: `(positions, D)`, as `storage.pack` keeps them.
        slices: for each message, its token ids as bytes, the positions that are its.
    """

    activations: Tensor
    slices: dict[bytes, slice]

    def messages(self) -> dict[bytes, Tensor]:
        """Views of the activations of each message."""
        return {name: self.activations[part] for name, part in self.slices.items()}


class DiskCache:
    """The shards of one key in a cache directory.

    Args:
        key: of the activations.
        folder: the cache directory, of all keys.
        limit: bytes that the directory may hold.
        mapped: activations are mapped from the files, instead of read into memory.
    """

    def __init__(self, key: PrefixKey, folder: Path, limit: int, mapped: bool) -> None:
        self.key = key
        self.root = folder
        self.folder = folder / key.name
        self.limit = limit
        self.mapped = mapped
        self._in_use: set[Path] = set()
        self._writable = True
        self._waiting = False

    def __str__(self) -> str:
        return str(self.folder)

    def find(self, wanted: Collection[bytes]) -> dict[bytes, Tensor]:
        """Activations of those messages that the shards hold; their shards become the most recently used."""
        found: dict[bytes, Tensor] = {}
        missing = set(wanted)
        for path in self._shards():
            if not missing:
                break
            messages = self._read(path, missing)
            if messages:
                self._in_use.add(path)
                with contextlib.suppress(OSError):  # another user's, or gone: it has been read all the same
                    os.utime(path)
                found.update(messages)
                missing -= messages.keys()
        return found

    def be_alone(self, until: contextlib.ExitStack) -> bool:
        """Whether no other process computes activations of this key until a stack ends: those that ask then wait."""
        if lock(self.root, self.key.name, until):
            return True
        if not self._waiting:
            log.info("prefix   another process computes activations in %s: waiting for them", self.folder)
        self._waiting = True
        return False

    def reserve(self, size: int) -> None:
        """Make room for messages that are going to be kept. If there is none, nothing is kept, and the log says so.

        Args:
            size: their `disk_bytes`; 0 only deletes what is beyond the limit.
        """
        try:
            fits = make_room(self.root, size, self.limit, self._in_use)
        except OSError as error:
            self._give_up(str(error))
        else:
            if size and not fits:
                self._give_up(f"{size / GB:.3g} GB more do not fit into max_disk_gb={self.limit / GB:g}")

    def keep(self, shard: Shard) -> dict[bytes, Tensor]:
        """Write what has been computed, if it can be written.

        Returns:
            Activations of the shard's messages: mapped from the file if they are to be, else views of the shard.
        """
        path = self._write(shard) if self._writable else None
        if path is not None:
            self._in_use.add(path)
            if self.mapped:
                return self._read(path, shard.slices) or shard.messages()
        return shard.messages()

    def _shards(self) -> list[Path]:
        try:
            return sorted(file.path for file in files_of(self.folder) if file.path.suffix == SHARD)
        except OSError as error:
            log.warning("%s can't be read (%s)", self.folder, error)
            return []

    def _read(self, path: Path, wanted: Collection[bytes]) -> dict[bytes, Tensor]:
        try:
            return read_shard(path, self.key, wanted, self.mapped)
        except FileNotFoundError:
            pass  # another process has just deleted it
        except OSError as error:
            log.warning("%s can't be read (%s); its messages are computed again", path, error)
        except ValueError as error:
            log.warning("%s is damaged or not ours (%s); its messages are computed again", path, error)
            with contextlib.suppress(OSError):
                delete(path)
        return {}

    def _write(self, shard: Shard) -> Path | None:
        path = self.folder / f"{_ids_hash(shard)}{SHARD}"
        content = shard_content(shard, self.key)
        reason = ""
        for _ in range(WRITE_ATTEMPTS):
            try:
                if self._publish(content, path):
                    return path
                reason = f"max_disk_gb={self.limit / GB:g} is full of activations in use"
                break
            except OSError as error:
                reason = str(error)
        self._give_up(reason)
        return None

    def _publish(self, content: bytes, path: Path) -> bool:
        """Write a shard under another name and rename it when it is whole, unless there is no room."""
        part = path.with_name(f"{path.stem}.{uuid.uuid4().hex}{PART}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content)
            # room was reserved, but others may have written since, or be writing: now their parts and this one count
            if not make_room(self.root, 0, self.limit, {*self._in_use, part}):
                return False
            os.replace(part, path)
            return True
        finally:
            with contextlib.suppress(OSError):
                delete(part)

    def _give_up(self, reason: str) -> None:
        self._writable = False
        log.warning("activations can't be kept in %s (%s); the next run computes them again", self.folder, reason)


def shard_content(shard: Shard, key: PrefixKey) -> bytes:
    """A shard as a safetensors file."""
    ids = torch.frombuffer(bytearray(b"".join(shard.slices)), dtype=torch.int32)
    lengths = torch.tensor([len(name) // 4 for name in shard.slices])  # token ids are int32
    checksums = torch.tensor([zlib.crc32(tensor_bytes(part)) for part in shard.messages().values()])
    index = {"ids": ids, "lengths": lengths, "checksums": checksums}
    checksum = _index_checksum([bytes(tensor_bytes(index[name])) for name in INDEX])
    return save({**index, "activations": shard.activations}, {"key": key.text, "index": checksum})


def read_shard(path: Path, key: PrefixKey, wanted: Collection[bytes], mapped: bool) -> dict[bytes, Tensor]:
    """Activations of the wanted messages of a shard, verified; nothing else of the shard's activations is read.

    Raises:
        ValueError: the file is damaged, or of another key.
        OSError: it can't be read, or it is gone.
    """
    with path.open("rb") as file:
        slices, checksums, start = _read_index(file, key)
        chosen = {name: part for name, part in slices.items() if name in wanted}
        if not chosen:
            return {}
        messages = _mapped(path, chosen) if mapped else _in_memory(file, start, key, chosen)
    for name, activations in messages.items():
        if zlib.crc32(tensor_bytes(activations)) != checksums[name]:
            raise ValueError("a checksum of its activations does not fit")
    return messages


def _read_index(file: BinaryIO, key: PrefixKey) -> tuple[dict[bytes, slice], dict[bytes, int], int]:
    """Positions and checksum of each message, and where in the file the activations start."""
    metadata, tensors = read_header(file)
    if metadata.get("key") != key.text:
        raise ValueError("it is of other weights or settings")
    if tensors.keys() != {*INDEX, "activations"}:
        raise ValueError("it holds other tensors than a shard")
    index = [_content(file, tensors[name]) for name in INDEX]
    if metadata.get("index") != _index_checksum(index):
        raise ValueError("the checksum of its index does not fit")
    ids, lengths, checksums = index[0], *(np.frombuffer(part, np.int64).tolist() for part in index[1:])
    counts = [key.positions(length) for length in lengths]
    expected = {
        "ids": ("I32", [sum(lengths)]),
        "lengths": ("I64", [len(lengths)]),
        "checksums": ("I64", [len(lengths)]),
        "activations": (SAFETENSORS_TYPES[key.stored or key.dtype], [sum(counts), kept_width(key)]),
    }
    if {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()} != expected:
        raise ValueError("types or shapes of its tensors do not fit its key")
    ends = np.cumsum(lengths).tolist()
    names = [ids[4 * (end - length) : 4 * end] for length, end in zip(lengths, ends, strict=True)]
    ends = np.cumsum(counts).tolist()
    slices = {name: slice(end - n, end) for name, n, end in zip(names, counts, ends, strict=True)}
    return slices, dict(zip(names, checksums, strict=True)), tensors["activations"].start


def _content(file: BinaryIO, tensor: TensorHeader) -> bytes:
    file.seek(tensor.start)
    return file.read(tensor.stop - tensor.start)


def _in_memory(file: BufferedReader, start: int, key: PrefixKey, slices: dict[bytes, slice]) -> dict[bytes, Tensor]:
    counts = [part.stop - part.start for part in slices.values()]
    activations = torch.empty(sum(counts), kept_width(key), dtype=kept_type(key))
    messages = dict(zip(slices, activations.split(counts), strict=True))
    row = activations.shape[1] * activations.itemsize
    for name, part in slices.items():
        file.seek(start + part.start * row)
        file.readinto(tensor_bytes(messages[name]))
    return messages


def _mapped(path: Path, slices: dict[bytes, slice]) -> dict[bytes, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            activations = file.get_tensor("activations")
    except (RuntimeError, SafetensorError) as error:  # the first is torch's, for a file that is gone
        raise OSError(str(error)) from error
    return {name: activations[part] for name, part in slices.items()}


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU."""
    return memoryview(tensor.view(torch.uint8).numpy()).cast("B")  # type: ignore[arg-type]


def _index_checksum(parts: list[bytes]) -> str:
    return f"{zlib.crc32(b''.join(parts)):08x}"


def _ids_hash(shard: Shard) -> str:
    return hashlib.sha256(b"|".join(shard.slices)).hexdigest()[:32]
