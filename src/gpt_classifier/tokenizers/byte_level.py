"""Byte-level BPE with GPT-2's split pattern, through tiktoken, and its rank files."""

import base64
import codecs
import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken

from gpt_classifier.assets import ASSETS
from gpt_classifier.errors import OptionError, UserError
from gpt_classifier.tokenizers.cutting import Truncate, Windows, cut_rows

GPT2_SPLIT = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
"""How GPT-2 cuts text into pieces, in the form that tiktoken matches without going back."""

_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTE_LETTERS = {value: chr(value) for value in _PRINTABLE} | {
    value: chr(256 + i) for i, value in enumerate(value for value in range(256) if value not in _PRINTABLE)
}
"""The letter that stands for each byte in GPT-2's vocabulary files."""

WHITE_SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # as Unicode and tiktoken have it
LONG_GAP = re.compile(f"(?<![{WHITE_SPACE}])[{WHITE_SPACE}]{{1000,}}+(?=[^{WHITE_SPACE}])")

MANY_CHARACTERS, LONG_TEXT = 100_000, 1_000
"""Of all texts, and of each on average: from both on tiktoken's threads gain more than they cost."""


class TiktokenTokenizer:
    """A byte-level BPE with GPT-2's split pattern, through tiktoken; `<|endoftext|>`, its last id, pads.

    Args:
        encoding: of tiktoken.
    """

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self.encoding = encoding
        self.pad_id = encoding.eot_token
        self.vocab_size = encoding.n_vocab

    @classmethod
    def from_ranks(cls, ranks: str) -> "TiktokenTokenizer":
        """The tokenizer of ranks as `ranks_to_text` writes them."""
        return cls(encoding_of(ranks_from_text(ranks)))

    def encode(
        self, texts: Sequence[str], max_length: int, truncate: Truncate, windows: Windows | None = None
    ) -> tuple[list[np.ndarray], int]:
        return cut_rows(self._token_ids(texts), max_length, truncate, windows)

    def _token_ids(self, texts: Sequence[str]) -> Iterator[list[int]]:
        for start in range(0, len(texts), 4096):  # token ids are large as long as they are Python's
            for ids in token_ids(texts[start : start + 4096], self.encoding):
                if not ids:
                    raise ValueError("a text without tokens has no last token to read")
                yield ids

    def pieces(self, row: np.ndarray, text: str | None = None) -> list[str]:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a text may be cut within a character
        parts = self.encoding.decode_tokens_bytes(row.tolist())
        return [decoder.decode(part, final=i == len(parts) - 1) for i, part in enumerate(parts)]

    def spellings(self) -> list[str]:
        ordinary = [self.encoding.decode_single_token_bytes(i) for i in range(len(self.encoding._mergeable_ranks))]
        return [*map(spelling, ordinary), *[""] * (self.vocab_size - len(ordinary))]

    def state(self) -> dict[str, Any]:
        return {"kind": "tiktoken", "ranks": ranks_to_text(self.encoding._mergeable_ranks)}


def spelling(token: bytes) -> str:
    """A token's text, in which parts of characters stay apart from each other."""
    return token.decode("utf-8", "surrogateescape")


@cache
def load_encoding(name: str) -> tiktoken.Encoding:
    """The vocabulary of a model.

    Args:
        name: `gpt2`, which tiktoken downloads once; `gpt2-nano`, which comes with the package; or the path of a rank
            file, as pretraining writes them. In all of them `<|endoftext|>` is the last id, and the one that pads.

    Raises:
        UserError: there is no such vocabulary, or it can't be fetched.
    """
    if name != "gpt2":
        return encoding_of(read_ranks(rank_file(name)))
    try:
        return tiktoken.get_encoding(name)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        raise UserError(
            "tokenizer: tiktoken could not fetch GPT-2's vocabulary, which it downloads once "
            f"({type(error).__name__}). Connect to the network once, or set the environment variable "
            "TIKTOKEN_CACHE_DIR to a folder that has it. experiment=quickstart needs no network."
        ) from error


def rank_file(name: str) -> Path:
    """Where the ranks of a vocabulary other than GPT-2's are.

    Raises:
        UserError: there are none.
    """
    path = ASSETS / "gpt2-nano" / "vocabulary.tiktoken" if name == "gpt2-nano" else Path(name).expanduser()
    if not path.is_file():
        raise OptionError(
            "tokenizer",
            "gpt2, gpt2-nano or the path of a rank file, or of an encoder's a folder with a tokenizer.json",
            f"{name}, which does not exist",
        )
    return path


def read_ranks(path: Path) -> dict[bytes, int]:
    """The ranks in a rank file.

    Raises:
        UserError: it is no such file, or lacks a byte or a rank.
    """
    try:
        return ranks_from_text(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise UserError(f"tokenizer: {path} is not a rank file of tiktoken: {error}.") from error


def ranks_from_text(text: str) -> dict[bytes, int]:
    """Ranks as tiktoken writes them: a line of base64 and rank for each token.

    Raises:
        ValueError: it is something else, or lacks a byte or a rank.
    """
    pairs = [line.split() for line in text.splitlines() if line]
    ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}
    if sorted(ranks.values()) != list(range(len(ranks))) or any(bytes([value]) not in ranks for value in range(256)):
        raise ValueError("it lacks some ranks or some of the 256 bytes")
    return ranks


def ranks_to_text(ranks: dict[bytes, int]) -> str:
    """The text that `ranks_from_text` reads."""
    return "".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items())


def encoding_of(ranks: dict[bytes, int]) -> tiktoken.Encoding:
    """Ranks with GPT-2's split pattern and `<|endoftext|>` as the last id."""
    end = {"<|endoftext|>": len(ranks)}
    return tiktoken.Encoding("ranks", pat_str=GPT2_SPLIT, mergeable_ranks=ranks, special_tokens=end)


def token_ids(texts: Sequence[str], encoding: tiktoken.Encoding) -> list[list[int]]:
    """Token ids of each text; what looks like a special token is ordinary text.

    tiktoken's pattern matching runs out of stack in very long white space before a word. GPT-2 keeps such a gap, but
    for its last character, as a piece of its own, so a text can be cut there.
    """
    pieces: list[str] = []
    counts = []
    for text in texts:
        cuts = [0, *(gap.end() - 1 for gap in LONG_GAP.finditer(text)), len(text)]
        pieces += [text[start:end] for start, end in pairwise(cuts)]
        counts.append(len(cuts) - 1)
    if sum(map(len, pieces)) < max(MANY_CHARACTERS, LONG_TEXT * len(pieces)):
        encoded = [encoding.encode_ordinary(piece) for piece in pieces]
    else:
        encoded = encoding.encode_ordinary_batch(pieces)
    ids = iter(encoded)
    return [list(chain.from_iterable(islice(ids, count))) for count in counts]
