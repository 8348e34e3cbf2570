"""A tokenizer as the files that transformers opens."""

import json
from pathlib import Path
from typing import Any

from gpt_classifier.atomic import write_text
from gpt_classifier.errors import UserError
from gpt_classifier.tokenizers.byte_level import BYTE_LETTERS, ranks_from_text
from gpt_classifier.tokenizers.interface import Tokenizer

END = "<|endoftext|>"
SIDES = {"head": "right", "tail": "left", "error": "right"}
"""Where transformers cuts a text, by what is kept of it; of `error`, where a user asks for it."""


def write_tokenizer(tokenizer: Tokenizer, folder: Path, max_length: int, truncate: str) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`; of byte-level BPE `vocab.json` and `merges.txt`, too.

    As here, a text can't spell a special token.

    Args:
        tokenizer: one of this package.
        folder: to write into.
        max_length: most tokens that are read of a text, for `truncation=True`.
        truncate: a key of `SIDES`.

    Raises:
        UserError: it is a tokenizer of another kind, or ranks that no merges make.
    """
    state = tokenizer.state()
    if state["kind"] == "tiktoken":
        special = _write_byte_level(ranks_from_text(state["ranks"]), folder)
    elif state["kind"] == "tokenizers":
        special = _write_described(state, folder)
    else:
        raise UserError(f"--to hf: transformers has no tokenizer of the kind {state['kind']!r}. Use --to bundle.")
    settings = {
        **special,
        "model_max_length": max_length,
        "padding_side": "right",
        "truncation_side": SIDES[truncate],
        "split_special_tokens": True,  # those in a text are ordinary
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    _write(folder / "tokenizer_config.json", settings)


def _write_described(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    from tokenizers import Tokenizer as Described

    write_text(folder / "tokenizer.json", state["json"])
    pad = Described.from_str(state["json"]).id_to_token(state["pad_id"])
    return {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": pad}


def _write_byte_level(ranks: dict[bytes, int], folder: Path) -> dict[str, Any]:
    vocabulary = {_letters(token): rank for token, rank in sorted(ranks.items(), key=lambda item: item[1])}
    if END in vocabulary:
        raise UserError(f"--to hf: the vocabulary has {END} twice. Use --to bundle.")
    vocabulary[END] = len(ranks)
    merges = [" ".join(map(_letters, pair)) for pair in merges_of(ranks)]
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    described = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": len(ranks), "content": END, **special}],
        "normalizer": None,
        "pre_tokenizer": byte_level,  # splits as GPT-2 does
        "post_processor": {**byte_level, "trim_offsets": False},
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }
    _write(folder / "tokenizer.json", described)
    _write(folder / "vocab.json", vocabulary)
    write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *merges, ""]))
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), END)
    return {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, **ends}


def merges_of(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The pair that each longer token is merged from, in the order of the ranks.

    tiktoken merges any two neighbours whose bytes together are a token, the lowest rank first. Within the bytes of a
    token it always does so in the same order, whatever stands around, so that there is one last pair.

    Raises:
        UserError: a token that no merges lead to; tiktoken knows it as a whole piece of text alone.
    """
    pairs = []
    for token, _ in sorted(ranks.items(), key=lambda item: item[1]):
        parts = [bytes([value]) for value in token]
        while len(parts) > 2:
            found = [ranks.get(parts[i] + parts[i + 1], len(ranks)) for i in range(len(parts) - 1)]
            lowest = min(range(len(found)), key=found.__getitem__)
            if found[lowest] == len(ranks):
                raise UserError(f"--to hf: no merges lead to the token {token!r} of the vocabulary. Use --to bundle.")
            parts[lowest : lowest + 2] = [parts[lowest] + parts[lowest + 1]]
        if len(parts) == 2:
            pairs.append((parts[0], parts[1]))
    return pairs


def _letters(token: bytes) -> str:
    return "".join(BYTE_LETTERS[value] for value in token)


def _write(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
