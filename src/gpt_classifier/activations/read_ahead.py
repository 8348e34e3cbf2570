"""Batches that are read from disk while the one before is computed with."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

MOST = 4  # batches that are held: more than a sampler announces ahead


class ReadAhead:
    """Gathers the batches that are announced in a thread of its own, in their order.

    Whether and when a batch was announced changes nothing but the time that it takes. The thread begins with the first
    batch that is announced, and ends with `close`.

    Args:
        gather: reads the messages of a split with these indices.
    """

    def __init__(self, gather: Callable[[str, Sequence[int]], Tensor]) -> None:
        self._gather = gather
        self._thread: ThreadPoolExecutor | None = None
        self._coming: OrderedDict[tuple[str, tuple[int, ...]], Future[Tensor]] = OrderedDict()

    def announce(self, split: str, indices: Sequence[int]) -> None:
        """Begin to read a batch. The oldest that nobody took, as where a pass ends early, are dropped."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead")
        self._coming[split, tuple(indices)] = self._thread.submit(self._gather, split, indices)
        while len(self._coming) > MOST:
            self._coming.popitem(last=False)[1].cancel()

    def take(self, split: str, indices: Sequence[int]) -> Tensor:
        """A batch, waited for if it was announced, read now otherwise."""
        coming = self._coming.pop((split, tuple(indices)), None)
        return self._gather(split, indices) if coming is None else coming.result()

    def close(self) -> None:
        """End the thread, and drop the batches that nobody took. What is announced later begins another one."""
        self._coming.clear()
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
            self._thread = None
