"""The directory of cached activations: list it, delete from it. Nothing here imports torch.

Each subdirectory is keyed by everything the activations depend on, except the token ids; its name is the hash of the
key. It holds shards, safetensors files with the token ids and the activations of some messages. A run that reads a
shard sets its modification time, so the least recently used shards are those with the oldest modification times.

Other processes may write and delete in the directory at the same time: a file that has vanished is skipped.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
from collections.abc import Container, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

FORMAT = 4  # of shards and keys; a change makes older shards unused, until they are deleted to make room
SHARD, PART = ".safetensors", ".part"  # a shard has the second name while it is written
GB = 10**9
PATIENCE = 1.0  # seconds of waiting for another process before a line says so, and before the next try


@dataclass(frozen=True)
class PrefixKey:
    """Everything that activations depend on, except the token ids.

    Args:
        weights: hash of the content of the frozen weights; `None` if it is not known yet.
        backbone: the backbone's family and sizes, as plain JSON values.
        width: size of an activation, D.
        depth: number of finished blocks; see `Classifier`.
        dtype: type of matrix products, such as `bfloat16`.
        pooling: the pooling and its options if the depth includes it, else `None`.
        padded_length: length that each message is padded to if the pooling reads padding, else `None`.
        pad_id: token id of the padding if the pooling reads it, else `None`.
        window: tokens of the windows that a row holds; `None` where it is read as a whole.
        stored: type that the activations are kept in, such as `int8`; `None` for `dtype`.
        format: of the shards.
    """

    weights: str | None
    backbone: dict[str, Any]
    width: int
    depth: int
    dtype: str
    pooling: str | None
    padded_length: int | None
    pad_id: int | None
    window: int | None = None
    stored: str | None = None
    format: int = FORMAT

    def positions(self, tokens: int) -> int:
        """Number of activations of a message of so many tokens."""
        if self.pooling is not None:
            return 1
        return self.padded_length or tokens

    @property
    def text(self) -> str:
        """The key as JSON. Equal keys have equal texts, those without newer fields the text of older versions."""
        fields = asdict(self)
        plain = {name: value for name, value in fields.items() if value is not None or name not in ("window", "stored")}
        return json.dumps(plain, sort_keys=True)

    @property
    def name(self) -> str:
        """Name of the key's subdirectory: 32 hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:32]


def lock(folder: Path, name: str, until: contextlib.ExitStack) -> bool:
    """Whether no other process computes what an entry holds until a stack ends: those that ask then wait.

    Asks for `PATIENCE` seconds. A directory that takes no lock, as on some network drives, is used without one.

    Args:
        folder: the cache directory.
        name: of the entry.
        until: releases the lock.
    """
    entry = FileLock(folder / f"{name}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        entry.acquire(timeout=PATIENCE)
    except Timeout:
        return False
    except (OSError, NotImplementedError) as error:
        log.warning("%s takes no lock (%s): runs at the same time may compute the same", folder, error)
    until.callback(_release, entry)
    return True


def _release(entry: FileLock) -> None:
    if entry.is_locked:
        with contextlib.suppress(OSError):  # Windows deletes no file that is open; filelock does it there
            os.unlink(entry.lock_file)  # by its holder: who opened it before tries again
    entry.release()


@dataclass(frozen=True)
class TensorHeader:
    """What the header of a safetensors file says of one tensor.

    Args:
        dtype: in safetensors' words, such as `F32`.
        shape: sizes of its dimensions.
        start: first byte in the file.
        stop: byte after the last.
    """

    dtype: str
    shape: list[int]
    start: int
    stop: int


def read_header(file: BinaryIO) -> tuple[dict[str, str], dict[str, TensorHeader]]:
    """Metadata and tensors of a safetensors file, without the tensors' content.

    See https://huggingface.co/docs/safetensors/index#format.

    Raises:
        ValueError: it is not a safetensors file, or not all of one.
    """
    size = os.fstat(file.fileno()).st_size
    data = 8 + int.from_bytes(file.read(8), "little")
    if size < 8 or data > size:
        raise ValueError("it is not a safetensors file")
    try:
        header = json.loads(file.read(data - 8))
        metadata = dict(header.pop("__metadata__", {}))
        tensors = {
            name: TensorHeader(info["dtype"], info["shape"], *(data + int(offset) for offset in info["data_offsets"]))
            for name, info in header.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("it is not a safetensors file") from error
    if max((tensor.stop for tensor in tensors.values()), default=data) != size:
        raise ValueError("it is cut short")
    return metadata, tensors


@dataclass(frozen=True)
class CachedFile:
    """A shard, or a part of one that a process is writing or was killed at.

    Args:
        path: where it is.
        size: in bytes.
        last_used: seconds since 1970.
    """

    path: Path
    size: int
    last_used: float


def cached_files(folder: Path) -> Iterator[CachedFile]:
    """All files of the cache in its directory; nothing else in there is touched."""
    for entry in _scan(folder):
        if _is_entry(entry):
            yield from files_of(Path(entry.path))


def files_of(folder: Path) -> Iterator[CachedFile]:
    """The files of the cache in one subdirectory."""
    for entry in _scan(folder):
        if entry.name.endswith((SHARD, PART)):
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue
            yield CachedFile(Path(entry.path), status.st_size, status.st_mtime)


def make_room(folder: Path, needed: int, limit: int, in_use: Container[Path]) -> bool:
    """Delete the least recently used files, until `needed` more bytes fit into `limit`.

    Where that is impossible, because too much is in use, files are deleted only down to the limit.

    Args:
        folder: the cache directory.
        needed: bytes that are going to be written.
        limit: bytes that the directory may hold.
        in_use: files that must not be deleted.

    Returns:
        Whether they fit now.
    """
    files = list(cached_files(folder))
    occupied = sum(file.size for file in files)
    unused = sorted((file for file in files if file.path not in in_use), key=lambda file: file.last_used)
    fits = occupied - sum(file.size for file in unused) + needed <= limit
    target = limit - needed if fits else limit
    for file in unused:
        if occupied <= target:
            break
        with contextlib.suppress(OSError):  # it can't be deleted, and stays
            delete(file.path)
            occupied -= file.size
    return occupied + needed <= limit


def delete(path: Path) -> None:
    """Delete a file of the cache, and its subdirectory with the last one. It may be gone already."""
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # it is not empty, or gone
        path.parent.rmdir()


@dataclass(frozen=True)
class CacheEntry:
    """One subdirectory of the cache.

    Args:
        folder: where it is.
        key: everything its activations depend on, or `{}` if no shard can be read.
        messages: how many its shards hold.
        gb: its size in 10^9 bytes.
        last_used: seconds since 1970.
    """

    folder: Path
    key: dict[str, Any]
    messages: int
    gb: float
    last_used: float

    def delete(self) -> None:
        """Delete what the cache has written in it, and the subdirectory if that was all."""
        for file in files_of(self.folder):
            file.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it holds something else, or is gone
            self.folder.rmdir()


def list_cache(folder: Path) -> list[CacheEntry]:
    """The subdirectories of the cache; other directories and files in its directory are not listed."""
    entries = []
    for entry in sorted(_scan(folder), key=lambda entry: entry.name):
        if not _is_entry(entry):
            continue
        key: dict[str, Any] = {}
        messages = 0
        files = list(files_of(Path(entry.path)))
        for file in files:
            if file.path.suffix == SHARD:
                with contextlib.suppress(OSError, ValueError, LookupError, TypeError), file.path.open("rb") as opened:
                    metadata, tensors = read_header(opened)
                    key = key or json.loads(metadata["key"])
                    messages += tensors["lengths"].shape[0]
        try:
            last_used = max((file.last_used for file in files), default=entry.stat().st_mtime)
        except FileNotFoundError:
            continue
        entries.append(CacheEntry(Path(entry.path), key, messages, sum(file.size for file in files) / GB, last_used))
    return entries


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_entry(entry: os.DirEntry[str]) -> bool:
    return re.fullmatch("[0-9a-f]{32}", entry.name) is not None and entry.is_dir()
