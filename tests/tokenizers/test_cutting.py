"""What is kept of long texts."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_classifier.errors import OptionError
from gpt_classifier.tokenizers.cutting import Windows, cut_rows


@pytest.mark.parametrize(
    ("truncate", "kept"),
    [
        ("head", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("tail", [12, 13, 14, 15, 16, 17, 18, 19]),
        ("head_tail", [0, 1, *range(14, 20)]),
    ],
)
def test_a_text_keeps_the_ends_that_it_is_asked_for(truncate: str, kept: list[int]) -> None:
    rows, cut = cut_rows([range(20), range(8)], 8, truncate)  # type: ignore[arg-type]
    assert [row.tolist() for row in rows] == [kept, list(range(8))]
    assert cut == 1


def test_head_and_tail_of_510_tokens_are_the_papers() -> None:
    (row,), _ = cut_rows([range(600)], 512, "head_tail", before=[-1], after=[-2])
    assert row.tolist() == [-1, *range(128), *range(600 - 382, 600), -2]


@given(tokens=st.integers(1, 60), room=st.integers(1, 20))
def test_head_and_tail_fill_what_there_is_room_for(tokens: int, room: int) -> None:
    (row,), cut = cut_rows([range(tokens)], room, "head_tail")
    assert len(set(row.tolist())) == len(row) == min(tokens, room)
    assert row[-1] == tokens - 1
    assert cut == (tokens > room)


@given(tokens=st.integers(1, 80), size=st.integers(3, 12), overlap=st.integers(0, 8), special=st.booleans())
def test_windows_cover_the_text_with_the_overlap_and_all_but_the_last_are_full(
    tokens: int, size: int, overlap: int, special: bool
) -> None:
    before, after = ([-1], [-2]) if special else ([], [])
    around = len(before) + len(after)
    if overlap >= size - around:
        with pytest.raises(OptionError, match="overlap: expected 0 to"):
            cut_rows([range(tokens)], 1000, "head", Windows(size, overlap), before, after)
        return
    (row,), cut = cut_rows([range(tokens)], 1000, "head", Windows(size, overlap), before, after)
    windows = [row[start : start + size].tolist() for start in range(0, len(row), size)]
    assert all(window[: len(before)] == before and window[len(window) - len(after) :] == after for window in windows)
    texts = [[token for token in window if token >= 0] for window in windows]
    assert all(len(text) == size - around for text in texts[:-1])
    for one, other in pairwise(texts):
        assert other[:overlap] == one[len(one) - overlap :]
        assert len(other) > overlap
    assert [token for i, text in enumerate(texts) for token in text[overlap if i else 0 :]] == list(range(tokens))
    if not special:
        assert row[Windows(size, overlap).new(len(row))].tolist() == list(range(tokens))
    assert cut == 0


def test_a_text_is_cut_before_it_becomes_windows() -> None:
    (row,), cut = cut_rows([range(100)], 10, "tail", Windows(6, 2))
    assert row.tolist() == [90, 91, 92, 93, 94, 95, 94, 95, 96, 97, 98, 99]
    assert cut == 1


@pytest.mark.parametrize(("size", "overlap"), [(4, 4), (4, 9), (4, -1), (0, 0)])
def test_windows_that_do_not_get_on_are_refused(size: int, overlap: int) -> None:
    with pytest.raises(OptionError, match=r"(size|overlap): expected"):
        Windows(size, overlap)


def test_special_tokens_need_room() -> None:
    with pytest.raises(OptionError, match="max_length: expected more than the 2 special tokens"):
        cut_rows([range(9)], 2, "head", before=[-1], after=[-2])
