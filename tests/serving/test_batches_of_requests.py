"""How requests become batches."""

import asyncio
import threading
from typing import Any

from gpt_classifier.serving.batching import Batcher
from gpt_classifier.serving.settings import Limits


class Counting:
    """In a classifier's place: it notes how many requests come together, and waits for the first to be alone."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.go_on = threading.Event()

    def answer(self, requests: list, max_tokens: int) -> list:
        self.go_on.wait(10)
        self.batches.append(len(requests))
        return [None] * len(requests)


def test_clients_that_ask_again_when_they_are_answered_share_the_next_batch() -> None:
    served: Any = Counting()

    async def ask() -> None:
        async with Batcher(served, Limits()) as batcher:

            async def client() -> None:
                for _ in range(5):
                    await batcher.ask(["a"])

            first = asyncio.create_task(client())
            await asyncio.sleep(0.05)
            others = [asyncio.create_task(client()) for _ in range(7)]
            while batcher.waiting < 8:
                await asyncio.sleep(0.01)
            served.go_on.set()
            await asyncio.gather(first, *others)

    asyncio.run(ask())
    assert served.batches == [1, 8, 8, 8, 8, 7]  # and not 1, 7, 1, 7, …
