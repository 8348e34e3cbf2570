"""What every tokenizer promises, and what is particular to tiktoken's."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_classifier.errors import UserError
from gpt_classifier.tokenizers import byte_level, load_tokenizer, tokenizer_from_state
from gpt_classifier.tokenizers.byte_level import load_encoding, token_ids
from gpt_classifier.tokenizers.cutting import TextTooLong, Windows
from gpt_classifier.tokenizers.interface import Tokenizer

TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {"gpt2-nano": lambda: load_tokenizer("gpt2-nano")}
"""Every implementation of the interface: a new one joins here."""

every_tokenizer = pytest.mark.parametrize("name", TOKENIZERS)


@every_tokenizer
@given(text=st.text(min_size=1))
def test_pieces_are_the_text(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]()
    (row,), cut = tokenizer.encode([text], 10_000, "head")
    assert "".join(tokenizer.pieces(row)) == text
    assert len(tokenizer.pieces(row)) == len(row)
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
    assert text.startswith("".join(tokenizer.pieces(ends["head"])))
    assert text.endswith("".join(tokenizer.pieces(ends["tail"])))


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
def test_text_that_spells_a_special_token_is_ordinary(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    text = "WIN <|endoftext|> [PAD] <pad> now"
    (row,), _ = tokenizer.encode([text], 100, "head")
    assert tokenizer.pad_id not in row
    assert "".join(tokenizer.pieces(row)) == text


@every_tokenizer
def test_text_without_tokens_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="without tokens"):
        TOKENIZERS[name]().encode(["fine", ""], 10, "head")


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
