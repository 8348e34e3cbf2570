"""The tokenizers of the Hugging Face library of that name: WordPiece, byte-level BPE, Unigram, with special tokens."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from gpt_classifier.errors import OptionError, UserError, first_line
from gpt_classifier.hub import fetch_file
from gpt_classifier.tokenizers.byte_level import BYTE_LETTERS, spelling
from gpt_classifier.tokenizers.cutting import Truncate, Windows, cut_rows

FILE = "tokenizer.json"
SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")
"""Files beside it that name the token that pads."""
LETTER_BYTES = {letter: value for value, letter in BYTE_LETTERS.items()}


class HuggingFaceTokenizer:
    """A tokenizer as `tokenizer.json` describes it; its special tokens are kept whatever is cut.

    A text can't spell a special token: it is encoded as ordinary text, or as an unknown token where a vocabulary, such
    as that of DeBERTa-v3, has the special token among its ordinary pieces.

    Args:
        json: the text of a `tokenizer.json`; what it says of cutting and padding has no effect.
        pad_id: the token that pads.

    Raises:
        ValueError: it is no such text, or has no such token. UserError: the library is not installed.
    """

    def __init__(self, json: str, pad_id: int) -> None:
        try:
            self._tokenizer = _library().Tokenizer.from_str(json)
        except UserError:
            raise
        except Exception as error:  # the library raises nothing more particular
            raise ValueError(f"it is no tokenizer.json ({first_line(error)})") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # those in a text are ordinary
        self.pad_id = pad_id
        self.vocab_size = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())
        if not 0 <= pad_id < self.vocab_size:
            raise ValueError(f"it has no token {pad_id}")
        self._before, self._after = _around(self._tokenizer)
        self._unknown = _unknown(json, self._tokenizer)
        added = self._tokenizer.get_added_tokens_decoder()
        self._special = {i for i, token in added.items() if token.special} - {self._unknown}

    def encode(
        self, texts: Sequence[str], max_length: int, truncate: Truncate, windows: Windows | None = None
    ) -> tuple[list[np.ndarray], int]:
        return cut_rows(self._token_ids(texts), max_length, truncate, windows, self._before, self._after)

    def _token_ids(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Token ids of each text, without the special ones around them."""
        for start in range(0, len(texts), 4096):  # encodings are large as long as they are the library's
            some = list(texts[start : start + 4096])
            encoded = self._tokenizer.encode_batch_fast(some, add_special_tokens=False)
            for text, encoding in zip(some, encoded, strict=True):
                ids = self._ids(encoding)
                if not text or not (ids or self._before or self._after):
                    raise ValueError("a text without tokens has no last token to read")
                yield ids

    def pieces(self, row: np.ndarray, text: str | None = None) -> list[str]:
        ids = row.tolist()
        if text is not None:
            encoding = self._tokenizer.encode(text)
            whole = self._ids(encoding)
            other = (i for i, (one, two) in enumerate(zip(ids, whole, strict=False)) if one != two)
            head = next(other, min(len(ids), len(whole)))
            tail = len(whole) - (len(ids) - head)  # where the row goes on, if something was cut
            if tail >= head and ids[head:] == whole[tail:]:
                parts = _parts(text, encoding)
                return parts[:head] + parts[tail:]
        stream = _library().decoders.DecodeStream(skip_special_tokens=True)
        return [stream.step(self._tokenizer, i) or "" for i in ids]

    def spellings(self) -> list[str]:
        tokens = [self._tokenizer.id_to_token(i) or "" for i in range(self.vocab_size)]
        tokens = ["" if i in self._special else token for i, token in enumerate(tokens)]
        if any(token.startswith("##") for token in tokens):  # WordPiece marks what goes on, others what begins
            return [token[2:] if token.startswith("##") else f" {token}" if token else "" for token in tokens]
        if set().union(*tokens) <= LETTER_BYTES.keys():
            return [spelling(bytes(LETTER_BYTES[letter] for letter in token)) for token in tokens]
        return tokens

    def state(self) -> dict[str, Any]:
        return {"kind": "tokenizers", "json": self._tokenizer.to_str(), "pad_id": self.pad_id}

    def _ids(self, encoding: Any) -> list[int]:
        ids = encoding.ids
        if self._unknown is None:
            return ids
        spelled = [i for i, added in enumerate(encoding.special_tokens_mask) if not added and ids[i] in self._special]
        for i in spelled:
            ids[i] = self._unknown
        return ids


def read_tokenizer(path: Path) -> HuggingFaceTokenizer:
    """A tokenizer from its files.

    Args:
        path: a `tokenizer.json`, or a folder with one, or with older files that transformers turns into one.

    Raises:
        UserError: it is none, or has no token for padding.
    """
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        return _converted(str(path), None)
    try:
        text = file.read_text(encoding="utf-8")
        pad_id = _pad_id(text, file.parent)
        if pad_id is not None:
            return HuggingFaceTokenizer(text, pad_id)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"tokenizer: {file} can't be read as a tokenizer.json: {first_line(error)}.") from error
    raise _without_padding(str(path))


def fetch_tokenizer(hub: str, revision: str | None) -> HuggingFaceTokenizer:
    """A tokenizer from the Hugging Face Hub.

    Args:
        hub: the repository.
        revision: commit, tag or branch; `None` for the main branch.

    Raises:
        UserError: no network and nothing in the cache, no such repository, or no token for padding.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return read_tokenizer(fetch_file(hub, (FILE,), revision, beside=(*SETTINGS, "config.json")))
    except UserError as error:
        lacks = isinstance(error.__cause__, EntryNotFoundError)
        if lacks and not isinstance(error.__cause__, LocalEntryNotFoundError):
            return _converted(hub, revision)
        if not isinstance(try_to_load_from_cache(hub, "config.json", revision=revision), str):
            raise
        try:  # no network, but the repository is in the cache, perhaps with older files
            return _converted(hub, revision, cached=True)
        except UserError:
            raise error from error.__cause__


def _converted(name: str, revision: str | None, cached: bool = False) -> HuggingFaceTokenizer:
    """What transformers makes of older files, such as `vocab.txt` or `spm.model`.

    Args:
        name: a folder or a repository.
        revision: of the repository.
        cached: take the repository's files from the local cache alone.
    """
    try:
        from transformers import AutoTokenizer

        theirs = AutoTokenizer.from_pretrained(
            name, revision=revision, trust_remote_code=False, local_files_only=cached
        )
        backend, pad_id = theirs.backend_tokenizer, theirs.pad_token_id
        text, vocabulary = backend.to_str(), backend.get_vocab(with_added_tokens=True)
    except Exception as error:  # whatever is missing, its kinds of errors are many
        raise OptionError(
            "tokenizer",
            "a folder with a tokenizer.json, or a repository on the Hugging Face Hub with one, in reach",
            f"{name}: {first_line(error)}",
            "transformers also reads older files, for which it may ask for a package (pip install sentencepiece "
            "protobuf).",
        ) from error
    if set(vocabulary.values()) <= set(theirs.all_special_ids):  # what transformers makes where no file has any
        raise OptionError(
            "tokenizer",
            "a folder or a repository with the vocabulary that the model was trained with, such as a tokenizer.json",
            f"{name}, which has none",
            "Save it beside the weights (tokenizer.save_pretrained of transformers), or set {field} to where it is.",
        )
    if pad_id is None:
        raise _without_padding(name)
    return HuggingFaceTokenizer(text, pad_id)


def _without_padding(name: str) -> OptionError:
    return OptionError(
        "tokenizer",
        "one with a token for padding, which tokenizer_config.json or config.json names",
        f"{name}, which has none",
        'Name one of its tokens in tokenizer_config.json ("pad_token": "…"), or use another tokenizer.',
    )


def _pad_id(text: str, folder: Path) -> int | None:
    """The token that pads: as the files beside a tokenizer name it, as it says itself, or as `config.json` has it."""
    told = [_object(folder / name).get("pad_token") for name in SETTINGS]
    described = json.loads(text)
    if not isinstance(described, dict):
        raise ValueError("it holds no JSON object")
    told.append((described.get("padding") or {}).get("pad_token"))
    vocabulary = _library().Tokenizer.from_str(text)
    for token in told:
        content = token.get("content") if isinstance(token, dict) else token
        if isinstance(content, str) and (found := vocabulary.token_to_id(content)) is not None:
            return found
    of_model = _object(folder / "config.json").get("pad_token_id")
    return of_model if isinstance(of_model, int) and vocabulary.id_to_token(of_model) is not None else None


def _object(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return content if isinstance(content, dict) else {}


def _library() -> ModuleType:
    try:
        import tokenizers
    except ImportError as error:
        raise UserError(
            'tokenizer: those of encoders such as BERT need the extra encoders: pip install -e ".[encoders]"'
        ) from error
    return tokenizers


def _unknown(text: str, tokenizer: Any) -> int | None:
    """The id of unknown tokens, which Unigram gives as a number and the others as a token."""
    model = json.loads(text)["model"]
    if model.get("unk_id") is not None:
        return int(model["unk_id"])
    token = model.get("unk_token")
    return None if token is None else tokenizer.token_to_id(token)


def _around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text."""
    for text in ("a", "0", *tokenizer.get_vocab()):
        encoding = tokenizer.encode(text)
        own = [i for i, special in enumerate(encoding.special_tokens_mask) if not special]
        if own:
            return encoding.ids[: own[0]], encoding.ids[own[-1] + 1 :]
    raise ValueError("it has no ordinary tokens")


def _parts(text: str, encoding: Any) -> list[str]:
    """The part of the text that each token is; what no token is, such as a space, is in the piece of the next one."""
    own = [i for i, special in enumerate(encoding.special_tokens_mask) if not special]
    parts = [""] * len(encoding.ids)
    if not own:
        return parts
    # a character of several tokens is in the offsets of each: it goes to the last
    starts = [*(encoding.offsets[i][0] for i in own[1:]), len(text)]
    begin = 0
    for i, start in zip(own, starts, strict=True):
        end = len(text) if i == own[-1] else max(begin, min(encoding.offsets[i][1], start))
        parts[i] = text[begin:end]
        begin = end
    return parts
