"""A tiktoken encoding by name, and texts as token ids."""

import base64
import re
from collections.abc import Sequence
from functools import cache
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import tiktoken

from gpt_classifier.assets import ASSETS
from gpt_classifier.errors import UserError

Truncate = Literal["head", "tail"]

GPT2_SPLIT = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
"""How GPT-2 cuts text into pieces, in the form that tiktoken matches without going back."""

WHITE_SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # as Unicode and tiktoken have it
LONG_GAP = re.compile(f"(?<![{WHITE_SPACE}])[{WHITE_SPACE}]{{1000,}}+(?=[^{WHITE_SPACE}])")


@cache
def load_encoding(name: str) -> tiktoken.Encoding:
    """The vocabulary of a model.

    Args:
        name: `gpt2`, which tiktoken downloads once; `gpt2-nano`, which comes with the package; or the path of a rank
            file, as `scripts/pretrain.py` writes them. In all of them `<|endoftext|>` is the last id, and the one
            that pads.

    Raises:
        UserError: there is no such vocabulary, or it can't be fetched.
    """
    if name != "gpt2":
        return encoding_of(read_ranks(rank_file(name)))
    try:
        return tiktoken.get_encoding(name)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        raise UserError(
            "model.tokenizer: tiktoken could not fetch GPT-2's vocabulary, which it downloads once "
            f"({type(error).__name__}). Connect to the network once, or point the environment variable "
            "TIKTOKEN_CACHE_DIR at a folder that has it. experiment=quickstart needs no network."
        ) from error


def rank_file(name: str) -> Path:
    """Where the ranks of a vocabulary other than GPT-2's are.

    Raises:
        UserError: there are none.
    """
    path = ASSETS / "gpt2-nano" / "vocabulary.tiktoken" if name == "gpt2-nano" else Path(name).expanduser()
    if not path.is_file():
        raise UserError(
            f"model.tokenizer: expected gpt2, gpt2-nano or the path of a rank file, but there is no file {path}."
        )
    return path


def read_ranks(path: Path) -> dict[bytes, int]:
    """The ranks in a rank file.

    Raises:
        UserError: it is no such file, or lacks a byte or a rank.
    """
    try:
        return ranks_from_text(path.read_text(encoding="ascii"))
    except ValueError as error:
        raise UserError(f"model.tokenizer: {path} is not a rank file of tiktoken: {error}.") from error


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


def expect_vocabulary(name: str, vocab_size: int, weights: str) -> None:
    """Refuse a vocabulary that a model was not trained with, as far as that can be seen.

    Args:
        name: as `load_encoding`.
        vocab_size: number of embeddings.
        weights: `model.weights`; a folder may hold the vocabulary of its weights.

    Raises:
        UserError: there are more tokens than embeddings, or the folder's vocabulary is another one; or as
            `load_encoding`.
    """
    encoding = load_encoding(name)
    if encoding.n_vocab > vocab_size:
        raise UserError(
            f"model.tokenizer: {name} has {encoding.n_vocab} tokens, but the model has embeddings for {vocab_size}. "
            f"Set model.tokenizer to the vocabulary that the model was trained with."
        )
    own = Path(weights).expanduser() / "vocabulary.tiktoken"
    if own.is_file() and read_ranks(own) != encoding._mergeable_ranks:
        raise UserError(
            f"model.tokenizer: the weights in {weights} were trained with another vocabulary than {name}. "
            f"Set model.tokenizer={own}."
        )


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
    encoded = iter(encoding.encode_ordinary_batch(pieces))
    return [list(chain.from_iterable(islice(encoded, count))) for count in counts]


def encode(
    texts: Sequence[str], encoding: tiktoken.Encoding, max_length: int, truncate: Truncate
) -> tuple[list[np.ndarray], int]:
    """Token ids of each text; what looks like a special token is ordinary text.

    Args:
        texts: none of them empty.
        encoding: the vocabulary.
        max_length: most tokens that are kept of a text.
        truncate: `head` keeps the beginning of a longer one, `tail` its end.

    Returns:
        An int32 array for each text, and how many texts were cut.

    Raises:
        ValueError: a text is empty.
    """
    kept = slice(None, max_length) if truncate == "head" else slice(-max_length, None)
    rows: list[np.ndarray] = []
    cut = 0
    for start in range(0, len(texts), 4096):  # token ids are large as long as they are Python's
        for ids in token_ids(texts[start : start + 4096], encoding):
            if not ids:
                raise ValueError("a text without tokens has no last token to read")
            cut += len(ids) > max_length
            rows.append(np.array(ids[kept], dtype=np.int32))
    return rows, cut
