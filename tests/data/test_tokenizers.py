"""Text to token ids."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_classifier.data import tokenizers
from gpt_classifier.data.tokenizers import encode, load_encoding, token_ids
from gpt_classifier.errors import UserError


@given(st.text())
def test_bundled_vocabulary_round_trips_any_text(text: str) -> None:
    encoding = load_encoding("gpt2-nano")
    assert encoding.decode(encoding.encode_ordinary(text)) == text


@given(st.text(alphabet=" \n\t\x1c\u3000\x85ab1!'é", max_size=40))
def test_texts_that_are_cut_in_long_gaps_have_the_same_tokens(text: str) -> None:
    encoding = load_encoding("gpt2-nano")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizers, "LONG_GAP", re.compile(tokenizers.LONG_GAP.pattern.replace("1000", "2")))
        assert token_ids([text, "a"], encoding) == [encoding.encode_ordinary(text), encoding.encode_ordinary("a")]


@pytest.mark.parametrize("text", [" " * 300_000, "x" + " \n" * 150_000, " " * 300_000 + "x", "x" * 300_000])
def test_monotonous_texts_are_read_in_no_time(text: str) -> None:
    encoding = load_encoding("gpt2-nano")
    assert encoding.decode(token_ids([text], encoding)[0]) == text


def test_end_of_text_is_the_last_id_and_pads(gpt2_vocabulary: None) -> None:
    assert load_encoding("gpt2").eot_token == 50256 == load_encoding("gpt2").max_token_value
    assert load_encoding("gpt2-nano").eot_token == 8191 == load_encoding("gpt2-nano").max_token_value


@pytest.mark.parametrize("name", ["gpt2", "gpt2-nano"])
def test_text_that_looks_like_a_special_token_is_ordinary(name: str, gpt2_vocabulary: None) -> None:
    encoding = load_encoding(name)
    rows, _ = encode(["WIN <|endoftext|> now"], encoding, 100, "head")
    assert encoding.eot_token not in rows[0]
    assert encoding.decode(rows[0].tolist()) == "WIN <|endoftext|> now"


def test_unknown_vocabulary_is_told() -> None:
    with pytest.raises(
        UserError,
        match=r"model\.tokenizer: expected gpt2, gpt2-nano or the path of a rank file, but there is no file cl100k",
    ):
        load_encoding("cl100k")


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
        load_encoding(str(tmp_path / "v.tiktoken"))
