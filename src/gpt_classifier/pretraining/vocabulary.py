"""A byte-level BPE vocabulary from text (Sennrich et al., 2016; over bytes as in Radford et al., 2019)."""

from collections.abc import Iterable
from pathlib import Path

import tiktoken
import torch
from torch import Tensor

from gpt_classifier.atomic import write_text
from gpt_classifier.errors import UserError
from gpt_classifier.tokenizers.byte_level import BYTE_LETTERS, ranks_to_text


def train_vocabulary(documents: Iterable[str], size: int) -> dict[bytes, int]:
    """Merge the most frequent pairs, within GPT-2's words, until there are enough tokens.

    Args:
        documents: text.
        size: number of tokens with `<|endoftext|>`, which gets the last id and is not among those returned.

    Returns:
        Ranks: the id of each token, the 256 bytes first, and then in the order of the merges.

    Raises:
        UserError: the text is too short for so many tokens, or the extra is not installed.
    """
    try:
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    except ImportError as error:
        raise UserError('Training a vocabulary needs an extra: pip install -e ".[pretrain]"') from error
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # splits as GPT-2 does
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size - 1, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(documents, trainer)
    ids = tokenizer.get_vocab()
    if len(ids) < size - 1:
        raise UserError(
            f"data.path: its text has {len(ids)} tokens that are worth one, but model.backbone.vocab_size is {size}. "
            f"Give more text, or a smaller vocabulary."
        )
    values = {letter: value for value, letter in BYTE_LETTERS.items()}
    merged = sorted((i, bytes(values[letter] for letter in token)) for token, i in ids.items())
    single = [bytes([value]) for value in range(256)]
    return {token: rank for rank, token in enumerate([*single, *(token for _, token in merged if len(token) > 1)])}


def transferred(embedding: Tensor, old: tiktoken.Encoding, new: tiktoken.Encoding) -> Tensor:
    """Embeddings of another vocabulary, so that weights go on with it (Gee et al., 2022, "Fast vocabulary transfer").

    Args:
        embedding: `(V, D)` of the old vocabulary.
        old: the vocabulary that the weights were trained with.
        new: the one that they go on with.

    Returns:
        `(V', D)`: tokens of both keep theirs, others begin as the mean of those that the old vocabulary cuts them into.
    """
    rows = torch.empty(new.n_vocab, embedding.shape[1], dtype=embedding.dtype)
    for token, rank in new._mergeable_ranks.items():
        rows[rank] = embedding[old._encode_single_piece(token)].mean(dim=0)
    rows[new.eot_token] = embedding[old.eot_token]
    return rows


def save_vocabulary(ranks: dict[bytes, int], path: Path) -> None:
    """Write a rank file as tiktoken's; it appears whole or not at all."""
    write_text(path, ranks_to_text(ranks))
