"""Text as one long row of tokens, cut into windows of several lengths."""

import lzma
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tiktoken
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from gpt_classifier.errors import UserError, first_line
from gpt_classifier.tokenizers.byte_level import token_ids

SEPARATOR = "<|endoftext|>"


@dataclass(frozen=True)
class Documents:
    """A text, document by document.

    Args:
        train: to learn from.
        val: every `val_every`-th document, held out.
    """

    train: list[str]
    val: list[str]


def read_documents(path: Path, val_every: int) -> Documents:
    """Documents of a UTF-8 text file, plain or `.xz`, separated by lines `<|endoftext|>`.

    Args:
        path: the file; its text is held in memory.
        val_every: one document in so many is held out.

    Raises:
        UserError: there is no such file, it can't be read, or it has fewer documents than that.
    """
    if not path.is_file():
        raise UserError(f"data.path: there is no file {path}. Set it to a text file, plain or .xz.")
    try:
        with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as file:
            text = file.read()
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise UserError(f"data.path: {path} can't be read as UTF-8 text ({first_line(error)}).") from error
    documents = [part.strip("\n") for part in re.split(rf"(?m)^{re.escape(SEPARATOR)}$", text)]
    documents = [document for document in documents if document.strip()]
    if len(documents) < val_every:
        raise UserError(
            f"data.path: {path} has {len(documents)} documents, but one in data.val_every={val_every} is held out for "
            f"validation. Separate documents by lines {SEPARATOR}, or set data.val_every to less."
        )
    val = documents[val_every - 1 :: val_every]
    del documents[val_every - 1 :: val_every]
    return Documents(documents, val)


def tokenize(documents: Sequence[str], encoding: tiktoken.Encoding) -> np.ndarray:
    """Ids of all documents in one row, `<|endoftext|>` after each; uint16 where that holds them, else int32."""
    dtype = np.uint16 if encoding.n_vocab <= 2**16 else np.int32
    parts = []
    for start in range(0, len(documents), 1024):
        rows = token_ids(documents[start : start + 1024], encoding)
        parts.append(np.array([i for row in rows for i in (*row, encoding.eot_token)], dtype=dtype))
    return np.concatenate(parts)


Windows = tuple[Tensor, Tensor]
"""Token ids `(B, T)`, and at each position the id that follows."""


def windows(tokens: np.ndarray, starts: Sequence[int] | np.ndarray, context: int, length: int) -> Windows:
    """Pieces of `context` tokens, each cut into windows of `length`.

    Args:
        tokens: `(N,)` ids.
        starts: where pieces begin, at most N - context - 1.
        context: a multiple of `length`.
    """
    pieces = np.stack([tokens[start : start + context + 1] for start in starts]).astype(np.int64)
    return (
        torch.from_numpy(pieces[:, :-1].reshape(-1, length)),
        torch.from_numpy(pieces[:, 1:].reshape(-1, length)),
    )


class TrainWindows(IterableDataset[Windows]):
    """Batches without end, each of windows of one length.

    In one pass over the text every token is learned once but for what is left over at the ends; each pass cuts at
    other places. A batch depends on its number alone, so that a training can go on from any of them.

    Args:
        tokens: `(N,)` ids.
        context: longest window in tokens; batches are made of pieces of this length.
        batch_tokens: tokens of a batch, over all processes, a multiple of `context`.
        lengths: of windows, divisors of `context`; one is drawn for each batch.
        seed: of the order.
        first: number of the first batch.
        rank: of this process, which takes its share of each batch.
        world_size: number of processes.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        context: int,
        batch_tokens: int,
        lengths: Sequence[int],
        seed: int,
        first: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.tokens = tokens
        self.context = context
        self.pieces = batch_tokens // context
        self.lengths = lengths
        self.seed = seed
        self.first = first
        self.rank = rank
        self.world_size = world_size
        self.batches_per_pass = ((len(tokens) - 1) // context - 1) // self.pieces

    def __iter__(self) -> Iterator[Windows]:
        number = self.first
        while True:
            turn, index = divmod(number, self.batches_per_pass)
            order = np.random.default_rng([self.seed, turn])
            offset = int(order.integers(self.context))
            starts = offset + self.context * order.permutation((len(self.tokens) - 1 - offset) // self.context)
            for place in range(index, self.batches_per_pass):
                chosen = starts[place * self.pieces : (place + 1) * self.pieces][self.rank :: self.world_size]
                yield windows(self.tokens, chosen, self.context, self._length(number))
                number += 1

    def _length(self, number: int) -> int:
        return int(np.random.default_rng([self.seed, number, 1]).choice(self.lengths))
