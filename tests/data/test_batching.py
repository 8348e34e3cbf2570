"""Padded batches, and how processes share them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpt_classifier.data.batching import EVALUATION_TOKENS, EvaluationBatches, TokenDataset, TrainBatches

LENGTHS = np.array([3, 9, 1, 4, 7, 2, 8, 5, 6, 10])


def dataset() -> TokenDataset:
    rows = [np.arange(1, n + 1, dtype=np.int32) for n in LENGTHS]
    return TokenDataset("train", rows, torch.tensor([0, 1] * 5), pad_id=99)


def test_rows_are_padded_on_the_right() -> None:
    batch = dataset()[[0, 3], 5]
    assert batch.ids.tolist() == [[1, 2, 3, 99, 99], [1, 2, 3, 4, 99]]
    assert batch.lengths.tolist() == [3, 4]
    assert batch.labels.tolist() == [0, 1]
    assert batch.indices.tolist() == [0, 3]
    assert (batch.ids.dtype, batch.labels.dtype) == (torch.int32, torch.int64)


def test_batches_are_padded_to_their_longest_or_to_a_number() -> None:
    for pad_to, lengths in (("batch", [9, 7, 8, 10]), (12, [12] * 4)):
        batches = EvaluationBatches(LENGTHS, 3, pad_to, in_order=True)  # type: ignore[arg-type]
        assert [length for _, length in batches] == lengths


def test_evaluation_goes_by_length_with_a_budget_of_tokens() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, 300)
    batches = list(EvaluationBatches(lengths, 8, "batch"))
    assert sorted(i for indices, _ in batches for i in indices) == list(range(300))
    assert max(len(indices) * length for indices, length in batches) <= EVALUATION_TOKENS
    assert sum(len(indices) * length for indices, length in batches) < 1.1 * lengths.sum()


def test_the_budget_of_tokens_can_be_that_of_a_larger_device() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, 300)
    few, many = (list(EvaluationBatches(lengths, 8, "batch", budget=budget)) for budget in (16 * 4096, 400))
    assert len(few) < len(list(EvaluationBatches(lengths, 8, "batch"))) < len(many)
    assert 4096 < max(len(indices) * length for indices, length in few) <= 16 * 4096
    assert all(len(indices) == 1 for indices, length in many if length > 200)


def test_batches_carry_weights_only_where_they_differ() -> None:
    rows = [np.ones(2, dtype=np.int32)] * 3
    weighted = TokenDataset("train", rows, torch.tensor([0, 1, 1]), 0, weights=[2.0, 0.5, 0.5])
    weights = weighted[[2, 0], 2].weights
    assert weights is not None
    assert (weights.tolist(), weights.dtype) == ([0.5, 2.0], torch.float32)
    assert TokenDataset("train", rows, torch.tensor([0, 1, 1]), 0, weights=[1.0, 1.0, 1.0])[[0, 1], 2].weights is None
    assert TokenDataset("train", rows, torch.tensor([0, 1, 1]), 0)[[0, 1], 2].weights is None


def test_training_batches_hold_messages_of_like_length_and_new_ones_each_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, 320)
    batches = TrainBatches(lengths, 8, "batch", bucket_batches=16)
    epochs = []
    for epoch in (0, 1):
        batches.set_epoch(epoch)
        epochs.append(list(batches))
        assert sorted(i for indices, _ in epochs[-1] for i in indices) == list(range(320))
    padded = sum(len(indices) * length for indices, length in epochs[0])
    unsorted = sum(len(indices) * length for indices, length in TrainBatches(lengths, 8, "batch"))
    assert padded < 1.15 * lengths.sum() < unsorted
    assert not {frozenset(indices) for indices, _ in epochs[0]} & {frozenset(indices) for indices, _ in epochs[1]}
    assert [length for _, length in epochs[0]] != sorted(length for _, length in epochs[0])


def test_training_drops_what_does_not_fill_a_batch_and_reshuffles_each_epoch() -> None:
    batches = TrainBatches(LENGTHS, 4, "batch", seed=1)
    epochs = []
    for epoch in (0, 1, 0):
        batches.set_epoch(epoch)
        epochs.append(list(batches))
    assert [len(indices) for indices, _ in epochs[0]] == [4, 4]
    assert len(batches) == 2
    assert len({i for indices, _ in epochs[0] for i in indices}) == 8
    assert epochs[0] == epochs[2] != epochs[1]
    assert epochs[0] != list(TrainBatches(LENGTHS, 4, "batch", seed=2))


@given(n=st.integers(8, 60), world_size=st.integers(1, 4), seed=st.integers(0, 99))
def test_processes_share_each_training_batch_without_repeats(n: int, world_size: int, seed: int) -> None:
    lengths = np.arange(1, n + 1)
    size = 4 * world_size
    whole = list(TrainBatches(lengths, size, "batch", bucket_batches=3, seed=seed)) if n >= size else []
    shares = [list(TrainBatches(lengths, size, "batch", rank, world_size, 3, seed)) for rank in range(world_size)]
    for step, (indices, length) in enumerate(whole):
        parts = [share[step] for share in shares]
        assert sorted(i for part, _ in parts for i in part) == sorted(indices)
        assert {(len(part), padded) for part, padded in parts} == {(4, length)}


@given(n=st.integers(1, 60), world_size=st.integers(1, 4))
def test_processes_take_equally_many_evaluation_steps_and_cover_everything(n: int, world_size: int) -> None:
    lengths = np.arange(1, n + 1)
    shares = [EvaluationBatches(lengths, 8, "batch", rank, world_size) for rank in range(world_size)]
    assert len({len(list(share)) for share in shares} | {len(share) for share in shares}) == 1
    assert {i for share in shares for indices, _ in share for i in indices} == set(range(n))


def test_chapters_batches(gpt2_vocabulary: None, sms_file: object) -> None:
    from gpt_classifier.data.datamodule import MessageDataModule
    from gpt_classifier.data.sources import SmsSpam
    from gpt_classifier.tasks import SingleLabel
    from gpt_classifier.tokenizers import load_tokenizer

    data = MessageDataModule(
        SmsSpam(str(sms_file), "unused", [], "", "minimal"),
        tokenizer=load_tokenizer("gpt2"),
        task=SingleLabel,
        context_length=1024,
        deduplicate="none",
        balance="undersample_all",
        val_fraction=0.1,
        test_fraction=0.2,
        split="random",
        split_seed=123,
        split_shuffles=1,
        train_size=None,
        subset_seed=123,
        batch_size=8,
        bucket_batches=16,
        pad_to="train",
        max_length=None,
        truncate="head",
        seed=123,
    )
    data.setup()
    loaders = {"train": data.train_dataloader(), "val": data.val_dataloader(), "test": data.test_dataloader()[2]}
    assert {name: len(loader) for name, loader in loaders.items()} == {"train": 130, "val": 19, "test": 38}
    first = next(iter(loaders["train"]))
    assert (first.ids.shape, first.labels.shape) == ((8, 120), (8,))
    assert data.pad_to == data.max_length == 120
    row = first.ids[0]
    assert (row[first.lengths[0] :] == 50256).all()


@pytest.mark.parametrize(("truncate", "kept"), [("head", "1\n2"), ("tail", "2\n3")])
def test_truncation_names_the_end_that_is_kept(truncate: str, kept: list[int]) -> None:
    from gpt_classifier.tokenizers import load_tokenizer

    tokenizer = load_tokenizer("gpt2-nano")
    rows, cut = tokenizer.encode(["1\n2\n3", "1"], 3, truncate)  # type: ignore
    assert "".join(tokenizer.pieces(rows[0])) == kept
    assert len(rows[1]) == 1
    assert cut == 1
