"""Texts one after another, `<|endoftext|>` between them, cut into windows that suit their lengths."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import IterableDataset

from gpt_classifier.pretraining.corpus import Windows, windows

SHORTEST = 128  # tokens of a window: shorter ones would leave later positions as they are
PART = 0.99  # of the texts that fit into a window as a whole


def window_length(lengths: Sequence[int], context: int) -> int:
    """Tokens of a window: a power of two that holds almost every text, so that positions are trained where texts are.

    Args:
        lengths: of the texts, in tokens.
        context: most that the model reads.
    """
    needed = max(SHORTEST, int(np.quantile(lengths, PART)) + 1)
    return min(context, 1 << (needed - 1).bit_length())


def pack(rows: Sequence[np.ndarray], end: int) -> np.ndarray:
    """All rows as one, `end` before the first, between them and after the last.

    Args:
        rows: token ids of each text.
        end: the id of `<|endoftext|>`.
    """
    separator = np.array([end], dtype=np.int32)
    return np.concatenate([separator, *(part for row in rows for part in (row, separator))], dtype=np.int32)


class Passes(IterableDataset[Windows]):
    """Batches of passes over texts, each pass in another order and so with other windows.

    What is left at the end of a pass is shorter than a window, and left out; where all is shorter, it is the window.

    Args:
        rows: token ids of each text.
        end: the id of `<|endoftext|>`.
        length: tokens of a window.
        batch_tokens: tokens of a batch, at least those of a window.
        passes: how many.
        seed: of the orders.
    """

    def __init__(
        self, rows: Sequence[np.ndarray], end: int, length: int, batch_tokens: int, passes: int, seed: int
    ) -> None:
        self.rows = rows
        self.end = end
        self.passes = passes
        self.seed = seed
        self.tokens = sum(map(len, rows)) + len(rows)  # each with the `end` after it
        self.length = min(length, self.tokens)
        self.batches_per_pass = -(-(self.tokens // self.length) // max(1, batch_tokens // self.length))

    def __iter__(self) -> Iterator[Windows]:
        for number in range(self.passes):
            random = np.random.default_rng([self.seed, number])
            ids = pack([self.rows[i] for i in random.permutation(len(self.rows))], self.end)
            starts = self.length * random.permutation(self.tokens // self.length)
            for chosen in np.array_split(starts, self.batches_per_pass):
                yield windows(ids, chosen, self.length, self.length)


def held_out_batches(rows: Sequence[np.ndarray], end: int, length: int, batch_tokens: int) -> list[Windows]:
    """Batches in which each token of some texts, and the `<|endoftext|>` after it, is predicted once."""
    ids = pack(rows, end)
    whole = (len(ids) - 1) // length
    starts, size = length * np.arange(whole), max(1, batch_tokens // length)
    batches = [windows(ids, starts[i : i + size], length, length) for i in range(0, whole, size)]
    rest = len(ids) - 1 - whole * length
    return [*batches, windows(ids, [whole * length], rest, rest)] if rest else batches
