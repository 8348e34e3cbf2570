"""Texts of all requests, computed together: whatever waits when a batch is done is the next batch."""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from gpt_classifier.serving.served import Answer, Refused, Served
from gpt_classifier.serving.settings import Limits

MOST_TEXTS, MOST_CHARACTERS = 256, 200_000
"""Texts and their characters that are computed together, unless one request alone has more."""

TURNS = 4
"""Of the event loop between two batches: answers are sent, requests that have come are read, and join the next one."""


@dataclass(frozen=True)
class Waiting:
    """A request that has no answer yet."""

    texts: Sequence[str]
    answer: asyncio.Future[Answer]


class Batcher:
    """A queue before one thread that computes; the event loop goes on meanwhile.

    A batch is not waited for: a text that comes while nothing is computed begins at once, and those that come while it
    is computed are the next batch, the more of them the busier it is. Between two batches the event loop does what it
    has to do anyway, as it and the thread take turns at Python's lock: else half of the clients would be answered while
    the other half is computed, in batches of half the size.

    Args:
        served: answers; another one may be put in its place at any time, and takes over with the next batch.
        limits: of requests.
    """

    def __init__(self, served: Served, limits: Limits) -> None:
        self.served = served
        self.limits = limits
        self.waiting = 0  # texts
        self._queue: deque[Waiting] = deque()
        self._some = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "compute")
        self._rate = 0.0  # texts a second
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Batcher":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._thread.shutdown()

    async def ask(self, texts: Sequence[str]) -> Answer:
        """What the classifier says of texts.

        Args:
            texts: at least one.

        Raises:
            Refused: too many texts wait, it takes too long, or these texts can't be answered.
        """
        if self.waiting + len(texts) > self.limits.max_waiting:
            raise Refused(429, f"{self.waiting:,} texts wait already; ask again later", self._seconds())
        own = Waiting(texts, asyncio.get_running_loop().create_future())
        self.waiting += len(texts)
        self._queue.append(own)
        self._some.set()
        try:
            async with asyncio.timeout(self.limits.timeout):
                return await own.answer
        except TimeoutError:
            message = f"no answer within {self.limits.timeout:g} s; ask again later"
            raise Refused(503, message, self._seconds()) from None
        finally:
            self.waiting -= len(texts)

    def _seconds(self) -> int:
        """After how many seconds those that wait are likely to have been answered."""
        return max(1, min(60, math.ceil(self.waiting / self._rate))) if self._rate else 1

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            batch = self._take()
            if not batch:
                self._some.clear()
                continue
            began = time.perf_counter()
            answers = await self._computed([one.texts for one in batch])
            self._rate = sum(len(one.texts) for one in batch) / (time.perf_counter() - began)
            for one, answer in zip(batch, answers, strict=True):
                if one.answer.done():  # it was given up
                    continue
                if isinstance(answer, Exception):
                    one.answer.set_exception(answer)
                else:
                    one.answer.set_result(answer)
            for _ in range(TURNS):
                await asyncio.sleep(0)

    async def _computed(self, requests: Sequence[Sequence[str]]) -> Sequence[Answer | Exception]:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self.served.answer, requests, self.limits.max_tokens)
        except Exception as error:  # of the whole batch; the next one may do
            return [error] * len(requests)

    def _take(self) -> list[Waiting]:
        """The next requests in the order in which they came, without those that were given up."""
        batch: list[Waiting] = []
        texts = characters = 0
        while self._queue:
            one = self._queue[0]
            if not one.answer.done():
                texts += len(one.texts)
                characters += sum(map(len, one.texts))
                if batch and (texts > MOST_TEXTS or characters > MOST_CHARACTERS):
                    break
                batch.append(one)
            self._queue.popleft()
        return batch
