"""Texts without labels as windows of tokens."""

import numpy as np
import pytest
import torch

from gpt_classifier.pretraining.packing import Passes, held_out_batches, window_length

END = 99
ROWS = [np.array([10 * i, 10 * i + 1, 10 * i + 2], dtype=np.int32) for i in range(9)]


def test_a_pass_predicts_every_token_once_but_for_what_is_left_at_its_end() -> None:
    passes = Passes(ROWS, END, length=4, batch_tokens=8, passes=2, seed=1)
    batches = list(passes)
    assert len(batches) == 2 * passes.batches_per_pass == 2 * 5
    for turn in (batches[:5], batches[5:]):
        targets = torch.cat([following.flatten() for _, following, _ in turn])
        assert len(targets) == 36
        assert sorted(targets.tolist()) == sorted([*np.concatenate(ROWS).tolist(), *[END] * 9])
    assert not torch.equal(batches[0][1], batches[5][1])


def test_a_text_begins_and_ends_with_end_of_text() -> None:
    ids, targets, _ = next(iter(Passes(ROWS, END, length=36, batch_tokens=1, passes=1, seed=1)))
    assert ids[0, 0] == END
    assert targets[0, 3::4].tolist() == [END] * 9
    assert torch.equal(ids[0, 1:], targets[0, :-1])


@pytest.mark.parametrize("length", [1, 4, 5, 7, 36, 1000])
def test_held_out_tokens_are_each_predicted_once(length: int) -> None:
    batches = held_out_batches(ROWS, END, length, batch_tokens=2 * length)
    targets = torch.cat([following.flatten() for _, following, _ in batches])
    assert sorted(targets.tolist()) == sorted([*np.concatenate(ROWS).tolist(), *[END] * 9])
    assert all(ids.shape[1] <= length for ids, *_ in batches)


def test_few_tokens_are_one_window() -> None:
    passes = Passes(ROWS[:1], END, length=128, batch_tokens=2048, passes=3, seed=1)
    assert [ids.shape for ids, *_ in passes] == [(1, 4)] * 3


def test_windows_hold_almost_every_text() -> None:
    assert window_length([20] * 99 + [5000], 1024) == 128
    assert window_length([300] * 100, 1024) == 512
    assert window_length([3000] * 100, 1024) == 1024
    assert window_length([20], 64) == 64
