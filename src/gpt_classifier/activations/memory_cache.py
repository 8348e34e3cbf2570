"""Activations in memory, kept for later runs of the same process; nothing is written to disk."""

import threading
from collections import OrderedDict
from collections.abc import Collection
from contextlib import ExitStack

from torch import Tensor

from gpt_classifier.activations.cache_folder import PrefixKey
from gpt_classifier.activations.disk_cache import Shard


class MemoryStore:
    """Activations of messages of any key. When they become too many, the least recently used ones are dropped.

    Whoever has been given a tensor can go on using it after that. All methods may be called from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: OrderedDict[tuple[str, bytes], Tensor] = OrderedDict()  # least recently used first
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Size of all activations in it."""
        return self._bytes

    def find(self, key: str, wanted: Collection[bytes]) -> dict[bytes, Tensor]:
        """Those of the wanted messages that are in it; they become the most recently used.

        Args:
            key: name of a `PrefixKey`.
            wanted: token ids of messages, as bytes.
        """
        with self._lock:
            found = {name: self._messages[key, name] for name in wanted if (key, name) in self._messages}
            for name in found:
                self._messages.move_to_end((key, name))
            return found

    def keep(self, key: str, messages: dict[bytes, Tensor]) -> None:
        """Add messages, as the most recently used."""
        with self._lock:
            for name, activations in messages.items():
                self._drop((key, name))
                self._messages[key, name] = activations
                self._bytes += activations.nbytes

    def shrink(self, limit: int) -> None:
        """Drop the least recently used messages until no more than `limit` bytes are left."""
        with self._lock:
            while self._bytes > limit:
                self._drop(next(iter(self._messages)))

    def _drop(self, name: tuple[str, bytes]) -> None:
        activations = self._messages.pop(name, None)
        if activations is not None:
            self._bytes -= activations.nbytes


STORE = MemoryStore()
"""The one of this process."""


def clear_memory_cache() -> None:
    """Drop all activations that runs of this process have left in memory."""
    STORE.shrink(0)


class MemoryCache:
    """The activations of one key in this process's store.

    Args:
        key: of the activations.
        limit: bytes that the store may hold, of all keys.
    """

    def __init__(self, key: PrefixKey, limit: int) -> None:
        self.name = key.name
        self.limit = limit

    def __str__(self) -> str:
        return "memory"

    def find(self, wanted: Collection[bytes]) -> dict[bytes, Tensor]:
        """Activations of those messages that the store holds."""
        return STORE.find(self.name, wanted)

    def be_alone(self, until: ExitStack) -> bool:
        """Always: no other process shares this memory."""
        return True

    def reserve(self, size: int) -> None:
        """Drop what is beyond the limit. Room for `size` more bytes is made while they are computed."""
        STORE.shrink(self.limit)

    def keep(self, shard: Shard) -> dict[bytes, Tensor]:
        """Keep what has been computed.

        Returns:
            Activations of the shard's messages, each with memory of its own, so that dropping one frees it.
        """
        messages = {name: activations.clone() for name, activations in shard.messages().items()}
        STORE.keep(self.name, messages)
        STORE.shrink(self.limit)
        return messages
