"""A tiktoken encoding by name, and texts as token ids."""

from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np
import tiktoken

from gpt_classifier.errors import UserError

Truncate = Literal["head", "tail"]

GPT2_SPLIT = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


@cache
def load_encoding(name: str) -> tiktoken.Encoding:
    """The vocabulary of a model.

    Args:
        name: `gpt2`, which tiktoken downloads once, or `gpt2-nano`, which needs no network: the 256 byte values.
            In both `<|endoftext|>` is the last id, and the one that pads.

    Raises:
        UserError: another name, or the vocabulary can't be fetched.
    """
    if name == "gpt2-nano":
        return tiktoken.Encoding(
            name,
            pat_str=GPT2_SPLIT,
            mergeable_ranks={bytes([value]): value for value in range(256)},
            special_tokens={"<|endoftext|>": 256},
        )
    if name != "gpt2":
        raise UserError(f"model.tokenizer: expected gpt2 or gpt2-nano, but it is {name}.")
    try:
        return tiktoken.get_encoding(name)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        raise UserError(
            "model.tokenizer: tiktoken could not fetch GPT-2's vocabulary, which it downloads once "
            f"({type(error).__name__}). Connect to the network once, or point the environment variable "
            "TIKTOKEN_CACHE_DIR at a folder that has it. experiment=quickstart needs no network."
        ) from error


def expect_vocabulary(name: str, vocab_size: int) -> None:
    """Refuse a vocabulary with more tokens than a model has embeddings for.

    Raises:
        UserError: as above, or as `load_encoding`.
    """
    n_vocab = load_encoding(name).n_vocab
    if n_vocab > vocab_size:
        raise UserError(
            f"model.tokenizer: {name} has {n_vocab} tokens, but the model has embeddings for {vocab_size}. "
            f"Set model.tokenizer to the vocabulary that the model was trained with."
        )


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
    rows = [np.array(row, dtype=np.int32) for row in encoding.encode_ordinary_batch(list(texts))]
    if not all(map(len, rows)):
        raise ValueError("a text without tokens has no last token to read")
    kept = slice(None, max_length) if truncate == "head" else slice(-max_length, None)
    return [row[kept] for row in rows], sum(len(row) > max_length for row in rows)
