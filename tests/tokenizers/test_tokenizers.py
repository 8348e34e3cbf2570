"""What every tokenizer promises, and what is particular to tiktoken's."""

import json
import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tiny_encoders import word_piece

from gpt_classifier.errors import OptionError, UserError
from gpt_classifier.tokenizers import byte_level, load_tokenizer, tokenizer_from_state, tokenizer_of
from gpt_classifier.tokenizers.byte_level import load_encoding, token_ids
from gpt_classifier.tokenizers.cutting import TextTooLong, Windows
from gpt_classifier.tokenizers.hugging_face import HuggingFaceTokenizer, read_tokenizer
from gpt_classifier.tokenizers.interface import Tokenizer

CORPUS = [
    "win £1000 now, call the number below to claim your prize",
    "see you at five, I will be late because of the train and the naïve café",
    "The quick brown fox jumps over the lazy dog. WORD word0 word1 word2 word3 word4 word5",
    "0123456789 !?.,;:'\"()[]{}<>|/ abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ",
]


@cache
def trained(kind: str, padding: bool = True) -> str:
    """The `tokenizer.json` of a small vocabulary, with special tokens at both ends of a text."""
    special = ["<pad>", "<unk>", "<s>", "</s>"]
    if kind == "WordPiece":
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
        tokenizer, trainer = word_piece(special, 200)
    elif kind == "BPE":
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=350, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    else:
        tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram())
        tokenizer.normalizer = tokenizers.normalizers.NFKC()
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
        tokenizer.decoder = tokenizers.decoders.Metaspace()
        trainer = tokenizers.trainers.UnigramTrainer(
            vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    tokenizer.train_from_iterator(CORPUS * 5, trainer)
    first, last = special[2:]
    ids = [(token, tokenizer.token_to_id(token)) for token in (first, last)]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(f"{first} $0 {last}", special_tokens=ids)
    if padding:
        tokenizer.enable_padding(pad_id=0, pad_token=special[0], length=64)
    tokenizer.enable_truncation(5)  # as some files have it: it must have no effect
    return tokenizer.to_str()


def hugging_face(kind: str) -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(trained(kind), 0)


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "gpt2-nano": lambda: load_tokenizer("gpt2-nano"),
    "WordPiece": lambda: hugging_face("WordPiece"),
    "byte-level BPE": lambda: hugging_face("BPE"),
    "Unigram": lambda: hugging_face("Unigram"),
}
"""Every implementation of the interface: a new one joins here."""

every_tokenizer = pytest.mark.parametrize("name", TOKENIZERS)


@every_tokenizer
@given(text=st.text(min_size=1))
def test_pieces_are_the_text(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]()
    (row,), cut = tokenizer.encode([text], 10_000, "head")
    pieces = tokenizer.pieces(row, text)
    assert "".join(pieces) in (text, "")
    assert any(pieces) or name != "gpt2-nano"  # WordPiece has no tokens for what cannot be seen
    assert len(pieces) == len(tokenizer.pieces(row)) == len(row)
    assert cut == 0


@every_tokenizer
@given(texts=st.lists(st.text(min_size=1), min_size=1, max_size=5), length=st.integers(4, 12))
def test_rows_are_int32_ids_of_at_most_the_length(name: str, texts: list[str], length: int) -> None:
    tokenizer = TOKENIZERS[name]()
    for truncate in ("head", "tail", "head_tail"):
        rows, cut = tokenizer.encode(texts, length, truncate)
        whole, _ = tokenizer.encode(texts, 10_000, truncate)
        assert [row.dtype for row in rows] == [np.int32] * len(texts)
        assert all(0 <= i < tokenizer.vocab_size for row in rows for i in row)
        assert [len(row) for row in rows] == [min(len(row), length) for row in whole]
        assert cut == sum(len(row) > length for row in whole)


@every_tokenizer
def test_each_end_is_cut_as_asked(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    text = " ".join(f"word{i}" for i in range(50))
    ends = {truncate: tokenizer.encode([text], 12, truncate)[0][0] for truncate in ("head", "tail")}
    assert text.startswith("".join(tokenizer.pieces(ends["head"], text)))
    assert text.endswith("".join(tokenizer.pieces(ends["tail"], text)))
    assert all(sum(map(bool, tokenizer.pieces(row, text))) >= 8 for row in ends.values())


@every_tokenizer
def test_a_text_that_is_too_long_is_refused_on_request(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    texts = ["a b", " ".join(f"word{i}" for i in range(50))]
    (_, whole), _ = tokenizer.encode(texts, len(tokenizer.encode(texts, 10_000, "head")[0][1]), "error")
    with pytest.raises(TextTooLong) as error:
        tokenizer.encode(texts, len(whole) - 1, "error")
    assert (error.value.index, error.value.tokens) == (1, len(whole))


@every_tokenizer
def test_windows_are_those_of_the_whole_text(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    texts = ["a b", " ".join(f"word{i}" for i in range(50))]
    (short, long), cut = tokenizer.encode(texts, 10_000, "head", Windows(20, 5))
    (plain, whole), _ = tokenizer.encode(texts, 10_000, "head")
    assert cut == 0
    assert short.tolist() == plain.tolist()
    assert long.dtype == np.int32
    assert long[:19].tolist() == whole[:19].tolist()
    assert len(long) > len(whole)


@every_tokenizer
def test_state_is_all_of_it(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    again = tokenizer_from_state(tokenizer.state())
    texts = ["WIN £1000 now!!", "naïve café 東京 \U0001f600", "a\n\n  b"]
    for row, other in zip(tokenizer.encode(texts, 99, "head")[0], again.encode(texts, 99, "head")[0], strict=True):
        assert row.tolist() == other.tolist()
    assert (tokenizer.pad_id, tokenizer.vocab_size) == (again.pad_id, again.vocab_size)


@every_tokenizer
def test_tokens_are_spelt_alike_but_for_where_words_begin(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    spellings = tokenizer.spellings()
    assert len(spellings) == tokenizer.vocab_size
    assert spellings[tokenizer.pad_id] == ""
    (row,), _ = tokenizer.encode(["see you at five see"], 99, "head")
    written = "".join(spellings[i] for i in row).lower()
    mark = written[written.index("you") - 1]
    assert not mark.isalnum()
    assert written.removeprefix(mark) == f"see{mark}you{mark}at{mark}five{mark}see"


@every_tokenizer
def test_text_that_spells_a_special_token_is_ordinary(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    text = "WIN <|endoftext|> [PAD] <pad> now"
    (row,), _ = tokenizer.encode([text], 100, "head")
    assert tokenizer.pad_id not in row
    assert "".join(tokenizer.pieces(row, text)) == text


@every_tokenizer
def test_text_without_tokens_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="without tokens"):
        TOKENIZERS[name]().encode(["fine", ""], 10, "head")


every_kind = pytest.mark.parametrize("kind", ["WordPiece", "BPE", "Unigram"])


@every_kind
def test_special_tokens_are_added_and_kept_when_cutting(kind: str) -> None:
    tokenizer = hugging_face(kind)
    text = " ".join(f"word{i}" for i in range(50))
    theirs = tokenizers.Tokenizer.from_str(trained(kind))
    theirs.no_truncation()
    theirs.no_padding()
    (whole,), _ = tokenizer.encode([text], 10_000, "head")
    assert whole.tolist() == theirs.encode(text).ids
    (head,), _ = tokenizer.encode([text], 12, "head")
    (tail,), _ = tokenizer.encode([text], 12, "tail")
    assert head.tolist() == [*whole[:11], whole[-1]]
    assert tail.tolist() == [whole[0], *whole[-11:]]
    for row in (whole, head, tail):
        pieces = tokenizer.pieces(row, text)
        assert pieces[0] == pieces[-1] == ""
        assert tokenizer.pieces(row)[0] == tokenizer.pieces(row)[-1] == ""


@every_kind
def test_text_that_spells_special_tokens_has_them_at_its_ends_alone(kind: str) -> None:
    tokenizer = hugging_face(kind)
    (row,), _ = tokenizer.encode(["<s> [CLS] </s> [SEP] <pad> [PAD]"], 99, "head")
    assert not {0, 2, 3} & set(row[1:-1].tolist())
    assert (row[0], row[-1]) == (2, 3)


@every_kind
def test_length_without_room_for_text_is_refused(kind: str) -> None:
    with pytest.raises(OptionError, match="max_length: expected more than the 2 special tokens of each text"):
        hugging_face(kind).encode(["see you at five"], 2, "head")


def test_pieces_are_the_text_itself_although_its_tokens_are_lower_case() -> None:
    tokenizer = hugging_face("WordPiece")
    (row,), _ = tokenizer.encode(["The Café"], 99, "head")
    assert "".join(tokenizer.pieces(row, "The Café")) == "The Café"
    assert "".join(tokenizer.pieces(row)).strip() == "the cafe"


def folder_of(tmp_path: Path, kind: str, **files: object) -> Path:
    (tmp_path / "tokenizer.json").write_text(trained(kind, padding=False))
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"pad_token": "</s>"}},
        {"tokenizer_config": {"pad_token": {"content": "</s>", "special": True}}},
        {"special_tokens_map": {"pad_token": "</s>"}},
        {"config": {"model_type": "bert", "pad_token_id": 3}},
    ],
)
def test_token_for_padding_is_what_the_files_beside_it_name(tmp_path: Path, files: dict) -> None:
    folder = folder_of(tmp_path, "BPE", **files)
    assert load_tokenizer(str(folder)).pad_id == 3
    assert load_tokenizer(str(folder / "tokenizer.json")).pad_id == 3
    assert tokenizer_of(None, str(folder), None, None).pad_id == 3
    assert tokenizer_of("auto", str(folder / "model.safetensors"), None, None).pad_id == 3
    assert tokenizer_of("gpt2-nano", str(folder), None, None).pad_id == 8191


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "see", "you", "##r", "at", "five"]


def test_older_files_of_a_vocabulary_become_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert", "pad_token_id": 0}')
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    tokenizer = read_tokenizer(tmp_path)
    (row,), _ = tokenizer.encode(["See your at FIVE"], 20, "head")
    assert row.tolist() == [2, 5, 6, 7, 8, 9, 3]
    again = tokenizer_from_state(tokenizer.state())
    assert again.encode(["See your at FIVE"], 20, "head")[0][0].tolist() == row.tolist()


def test_older_files_in_the_cache_of_the_hub_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "models--some--bert"
    folder = repository / "snapshots" / ("1" * 40)
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("1" * 40)
    (folder / "config.json").write_text('{"model_type": "bert", "pad_token_id": 0}')
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="Connect to the network once"):
        load_tokenizer("some/bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    assert load_tokenizer("some/bert").encode(["See your at FIVE"], 20, "head")[0][0].tolist() == [2, 5, 6, 7, 8, 9, 3]


def test_tokenizer_without_a_token_for_padding_is_told(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="tokenizer: expected one with a token for padding"):
        read_tokenizer(folder_of(tmp_path, "BPE", tokenizer_config={"pad_token": None}))


def test_tokenizer_that_is_not_there_or_damaged_is_told(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"tokenizer: expected a folder with a tokenizer\.json"):
        read_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer: .*tokenizer\.json can't be read as a tokenizer\.json"):
        read_tokenizer(tmp_path)
    with pytest.raises(UserError, match=r"some/encoder: .* tokenizer\.json .*Connect to the network once"):
        load_tokenizer("some/encoder")


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta", "deberta-v2", "modernbert"])
def test_model_that_was_saved_without_its_vocabulary_is_told(architecture: str, tmp_path: Path) -> None:
    """transformers would make a vocabulary of special tokens alone, in which each text is unknown tokens."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": architecture, "pad_token_id": 0}))
    with pytest.raises(
        OptionError, match=r"tokenizer: expected a folder (with a tokenizer\.json|or a repository with the voc)"
    ):
        read_tokenizer(tmp_path)


def test_unknown_state_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        tokenizer_from_state({"kind": "sentencepiece"})


@given(st.text(alphabet=" \n\t\x1c\u3000\x85ab1!'é", max_size=40))
def test_texts_that_are_cut_in_long_gaps_have_the_same_tokens(text: str) -> None:
    encoding = load_encoding("gpt2-nano")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(byte_level, "LONG_GAP", re.compile(byte_level.LONG_GAP.pattern.replace("1000", "2")))
        assert token_ids([text, "a"], encoding) == [encoding.encode_ordinary(text), encoding.encode_ordinary("a")]


@pytest.mark.parametrize("text", [" " * 300_000, "x" + " \n" * 150_000, " " * 300_000 + "x", "x" * 300_000])
def test_monotonous_texts_are_tokenized_in_seconds(text: str) -> None:
    encoding = load_encoding("gpt2-nano")
    began = time.process_time()
    ids = token_ids([text], encoding)[0]
    assert time.process_time() - began < 5  # of the processor, usually 0.2: time quadratic in the length takes minutes
    assert encoding.decode(ids) == text


@pytest.mark.parametrize(("texts", "threads"), [(["some words"] * 3000, False), (["some words " * 1000] * 20, True)])
def test_only_long_texts_are_tokenized_in_threads(
    texts: list[str], threads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoding, batches = load_encoding("gpt2-nano"), []
    together = type(encoding).encode_ordinary_batch
    monkeypatch.setattr(type(encoding), "encode_ordinary_batch", lambda *given: batches.append(1) or together(*given))
    assert token_ids(texts, encoding) == [encoding.encode_ordinary(text) for text in texts]
    assert bool(batches) == threads


def test_end_of_text_is_the_last_id_and_pads(gpt2_vocabulary: None) -> None:
    assert load_tokenizer("gpt2").pad_id == 50256 == load_tokenizer("gpt2").vocab_size - 1
    assert load_tokenizer("gpt2-nano").pad_id == 8191 == load_tokenizer("gpt2-nano").vocab_size - 1


def test_gpt2_from_its_state_needs_no_vocabulary_file(gpt2_vocabulary: None) -> None:
    tokenizer = load_tokenizer("gpt2")
    again = tokenizer_from_state(tokenizer.state())
    assert again.encode(["Every effort moves you"], 9, "head")[0][0].tolist() == [6109, 3626, 6100, 345]
    assert again.pad_id == 50256


def test_unknown_vocabulary_is_told() -> None:
    with pytest.raises(UserError, match=r"tokenizer: expected gpt2, gpt2-nano or the path of a rank file"):
        load_tokenizer("cl100k")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("AA==\n", "is not a rank file"),
        ("AA== x\n", "is not a rank file"),
        ("AA== 0\n", "is not a rank file of tiktoken: it lacks"),
    ],
)
def test_damaged_rank_file_is_told(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "v.tiktoken").write_text(content)
    with pytest.raises(UserError, match=expected):
        load_tokenizer(str(tmp_path / "v.tiktoken"))
