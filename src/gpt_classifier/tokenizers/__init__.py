"""Tokenizers by name and by state."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpt_classifier.errors import OptionError
from gpt_classifier.tokenizers.byte_level import TiktokenTokenizer, encoding_of, load_encoding, read_ranks
from gpt_classifier.tokenizers.interface import Tokenizer

TOKENIZERS: dict[str, Callable[..., Tokenizer]] = {"tiktoken": TiktokenTokenizer.from_ranks}
"""What makes each kind of tokenizer from its state, under the kind that the state names."""


def load_tokenizer(name: str) -> Tokenizer:
    """The tokenizer that a configuration names: a kind of `TOKENIZERS` that needs no state, or see `load_encoding`."""
    if name in TOKENIZERS and name != "tiktoken":
        return TOKENIZERS[name]()
    return TiktokenTokenizer(load_encoding(name))


def tokenizer_from_state(state: dict[str, Any]) -> Tokenizer:
    """What `Tokenizer.state` described.

    Raises:
        ValueError: it is no such description.
    """
    arguments = dict(state)
    kind = arguments.pop("kind", None)
    if kind not in TOKENIZERS:
        raise ValueError(f"its tokenizer is of an unknown kind, {kind!r}")
    return TOKENIZERS[kind](**arguments)


def expect_vocabulary(tokenizer: Tokenizer, name: str, vocab_size: int, weights: str) -> None:
    """Refuse a vocabulary that a model was not trained with, as far as that can be seen.

    Args:
        tokenizer: the one that is to be used.
        name: how it was chosen.
        vocab_size: number of embeddings.
        weights: where the weights come from; a folder may hold the vocabulary of its weights.

    Raises:
        OptionError: there are more tokens than embeddings, or the folder's vocabulary is another one.
    """
    if tokenizer.vocab_size > vocab_size:
        raise OptionError(
            "tokenizer",
            f"a vocabulary for the model's {vocab_size} embeddings",
            f"{name} with {tokenizer.vocab_size} tokens",
            "Set {field} to the vocabulary that the model was trained with.",
        )
    own = Path(weights).expanduser() / "vocabulary.tiktoken"
    if own.is_file() and TiktokenTokenizer(encoding_of(read_ranks(own))).state() != tokenizer.state():
        raise OptionError(
            "tokenizer",
            f"the vocabulary that the weights in {weights} were trained with",
            name,
            f"Set {{field}}={own}.",
        )
