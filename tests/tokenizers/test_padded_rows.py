"""Rows in batches: all of them once, and no more padding than is worth it."""

import numpy as np
import pytest

from gpt_classifier.tokenizers.padding import evaluation_parts, padded

LENGTHS = np.array([*np.random.default_rng(0).integers(1, 60, 40), 200, 3, 100])


def padding_of(part: tuple[list[int], int]) -> int:
    rows, T = part
    return len(rows) * T - int(LENGTHS[rows].sum())


@pytest.mark.parametrize("most_padding", [0, 50, None])
def test_all_rows_are_there_once_within_the_limits(most_padding: int | None) -> None:
    parts = list(evaluation_parts(LENGTHS, 8, "batch", False, 150, most_padding))
    assert sorted(i for rows, _ in parts for i in rows) == list(range(len(LENGTHS)))
    assert all(LENGTHS[rows].max() == T for rows, T in parts)
    assert all(len(rows) * T <= 150 or len(rows) == 1 for rows, T in parts)
    assert max(map(padding_of, parts)) <= (150 if most_padding is None else most_padding)


def test_a_few_texts_of_many_lengths_are_not_padded_to_the_longest() -> None:
    whole, cut = (list(evaluation_parts(LENGTHS, 8, "batch", False, 10**6, most)) for most in (None, 64))
    assert len(whole) == 1
    assert 2 < len(cut) < len(LENGTHS) / 2
    assert sum(map(padding_of, cut)) < sum(map(padding_of, whole)) / 10


def test_padding_to_a_number_of_tokens_keeps_the_order() -> None:
    parts = list(evaluation_parts(LENGTHS, 8, 256, False, 150, 0))
    assert [i for rows, _ in parts for i in rows] == list(range(len(LENGTHS)))
    assert {(len(rows), T) for rows, T in parts} == {(8, 256), (3, 256)}


def test_rows_are_padded_at_the_right() -> None:
    ids, lengths = padded([np.array([5, 6], dtype=np.int32), np.array([7], dtype=np.int32)], 3, 9)
    assert ids.tolist() == [[5, 6, 9], [7, 9, 9]]
    assert lengths.tolist() == [2, 1]
