"""Tokenizers by name and by state."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpt_classifier.errors import OptionError
from gpt_classifier.tokenizers.byte_level import TiktokenTokenizer, encoding_of, load_encoding, read_ranks
from gpt_classifier.tokenizers.hugging_face import HuggingFaceTokenizer, fetch_tokenizer, read_tokenizer
from gpt_classifier.tokenizers.interface import Tokenizer

TOKENIZERS: dict[str, Callable[..., Tokenizer]] = {
    "tiktoken": TiktokenTokenizer.from_ranks,
    "tokenizers": HuggingFaceTokenizer,
}
"""What makes each kind of tokenizer from its state, under the kind that the state names."""

STATEFUL = ("tiktoken", "tokenizers")
REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def load_tokenizer(name: str) -> Tokenizer:
    """The tokenizer that a configuration names.

    Args:
        name: a kind of `TOKENIZERS` that needs no state; a folder or a file `tokenizer.json` as transformers writes
            them; a repository on the Hugging Face Hub, such as `google-bert/bert-base-uncased`; or see
            `load_encoding`.

    Raises:
        UserError: there is no such tokenizer, or it can't be had.
    """
    if name in TOKENIZERS and name not in STATEFUL:
        return TOKENIZERS[name]()
    path = Path(name).expanduser()
    if path.is_dir() or (path.is_file() and path.suffix == ".json"):
        return read_tokenizer(path)
    if not path.exists() and REPOSITORY.fullmatch(name) and not name.endswith(".tiktoken"):
        return fetch_tokenizer(name, None)
    return TiktokenTokenizer(load_encoding(name))


def tokenizer_of(name: str | None, weights: str, hub: str | None, revision: str | None) -> Tokenizer:
    """The tokenizer of a model.

    Args:
        name: as `load_tokenizer` takes it; `None` or `auto` for that of the checkpoint.
        weights: `pretrained`, `random` or a path; one that holds no tokenizer has its folder's.
        hub: the checkpoint's repository, for weights that are no path.
        revision: of the repository.

    Raises:
        UserError: there is no such tokenizer, it can't be had, or it has no token for padding.
    """
    if name not in (None, "auto"):
        return load_tokenizer(str(name))
    if weights not in ("pretrained", "random"):
        path = Path(weights).expanduser()
        return read_tokenizer(path if path.is_dir() else path.parent)
    if hub is None:
        raise OptionError(
            "tokenizer",
            "a folder with a tokenizer.json, or a repository on the Hugging Face Hub, as this model has neither",
            name,
        )
    return fetch_tokenizer(hub, revision)


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
