"""Text as one long row of tokens, cut into windows of several lengths."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tiktoken
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from gpt_classifier.errors import UserError, option_group
from gpt_classifier.tables.unlabelled import SEPARATOR, UnlabelledTexts
from gpt_classifier.tokenizers.byte_level import token_ids


@dataclass(frozen=True)
class Documents:
    """A text, document by document.

    Args:
        file: its name.
        train: to learn from.
        val: every `val_every`-th document, held out.
    """

    file: str
    train: list[str]
    val: list[str]

    @property
    def name(self) -> str:
        """The file's, without endings."""
        return self.file.partition(".")[0]


@dataclass(frozen=True)
class HeldOut:
    """What a loss on held-out documents is measured by.

    Args:
        name: of the text.
        bytes_per_token: of these documents.
    """

    name: str
    bytes_per_token: float


def read_documents(path: Path, val_every: int) -> Documents:
    """Documents of a file of texts, as `UnlabelledTexts` reads it.

    Args:
        path: the file; its text is held in memory.
        val_every: one document in so many is held out.

    Raises:
        UserError: it can't be read, or it has fewer documents than that.
    """
    with option_group("data"):
        documents = UnlabelledTexts(str(path)).read()
    if len(documents) < val_every:
        raise UserError(
            f"data.path: {path} has {len(documents)} documents, but one in data.val_every={val_every} is held out for "
            f"validation. Write a document a line, or separate documents by lines {SEPARATOR}, or set data.val_every "
            f"to less."
        )
    val = documents[val_every - 1 :: val_every]
    del documents[val_every - 1 :: val_every]
    return Documents(path.name, documents, val)


def tokenize(documents: Sequence[str], encoding: tiktoken.Encoding) -> np.ndarray:
    """Ids of all documents in one row, `<|endoftext|>` after each; uint16 where that holds them, else int32."""
    dtype = np.uint16 if encoding.n_vocab <= 2**16 else np.int32
    parts = []
    for start in range(0, len(documents), 1024):
        rows = token_ids(documents[start : start + 1024], encoding)
        parts.append(np.array([i for row in rows for i in (*row, encoding.eot_token)], dtype=dtype))
    return np.concatenate(parts)


class Windows(NamedTuple):
    """A batch.

    Args:
        ids: `(B, T)` token ids.
        targets: `(B, T)`, the id that follows each.
        hide: `(B, T)`, which tokens are hidden from the model and asked for; `None` where the next one is.
    """

    ids: Tensor
    targets: Tensor
    hide: Tensor | None = None

    def hidden(self, share: float, generator: np.random.Generator) -> "Windows":
        """The same windows with so many of their tokens hidden, never the first, which nothing precedes."""
        hide = torch.from_numpy(generator.random(self.ids.shape, dtype=np.float32) < share)
        hide[:, 0] = False
        hide[:, 1] |= ~hide.any(dim=1)  # something to learn in each
        return self._replace(hide=hide)


def windows(tokens: np.ndarray, starts: Sequence[int] | np.ndarray, context: int, length: int) -> Windows:
    """Pieces of `context` tokens, each cut into windows of `length`.

    Args:
        tokens: `(N,)` ids.
        starts: where pieces begin, at most N - context - 1.
        context: a multiple of `length`.
    """
    pieces = np.stack([tokens[start : start + context + 1] for start in starts]).astype(np.int64)
    return Windows(
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
        masked: share of the batches that have hidden tokens.
        mask: share of the tokens of such a batch that are hidden.
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
        masked: float = 0.0,
        mask: float = 0.0,
        first: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.tokens = tokens
        self.context = context
        self.pieces = batch_tokens // context
        self.lengths = lengths
        self.seed = seed
        self.masked = masked
        self.mask = mask
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
                draw = np.random.default_rng([self.seed, number, 1])
                batch = windows(self.tokens, chosen, self.context, int(draw.choice(self.lengths)))
                if draw.random() < self.masked:
                    batch = batch.hidden(self.mask, np.random.default_rng([self.seed, number, 2, self.rank]))
                yield batch
                number += 1
