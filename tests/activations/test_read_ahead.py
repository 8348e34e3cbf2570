"""Batches that are read before they are asked for."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Run
from torch import Tensor

from gpt_classifier.activations import frozen_prefix
from gpt_classifier.activations.read_ahead import MOST, ReadAhead
from gpt_classifier.data.batching import AHEAD, EvaluationBatches, TrainBatches
from gpt_classifier.training.module import ClassifierModule


class Reading:
    """Gathers rows of a table, and says in which thread."""

    def __init__(self) -> None:
        self.threads: list[str] = []

    def __call__(self, split: str, indices: Sequence[int]) -> Tensor:
        self.threads.append(threading.current_thread().name)
        return torch.tensor([10 * i for i in indices])


def test_what_was_announced_is_read_elsewhere_and_anything_else_at_once() -> None:
    reading = Reading()
    ahead = ReadAhead(reading)
    ahead.announce("train", [1, 2])
    assert ahead.take("train", [1, 2]).tolist() == [10, 20]
    assert ahead.take("train", [1, 2]).tolist() == [10, 20]  # not announced again
    assert ["read-ahead" in name for name in reading.threads] == [True, False]


def test_a_pass_that_ends_early_leaves_no_more_than_a_few_batches() -> None:
    ahead = ReadAhead(Reading())
    for i in range(50):
        ahead.announce("val", [i])
    assert len(ahead._coming) == MOST > AHEAD
    assert ahead.take("val", [3]).tolist() == [30]
    assert ahead.take("val", [49]).tolist() == [490]


def test_an_error_while_reading_reaches_whoever_asks() -> None:
    def fail(split: str, indices: Sequence[int]) -> Tensor:
        raise OSError("the disk is gone")

    ahead = ReadAhead(fail)
    ahead.announce("train", [0])
    with pytest.raises(OSError, match="the disk is gone"):
        ahead.take("train", [0])


def test_it_can_go_on_after_its_end() -> None:
    ahead = ReadAhead(Reading())
    ahead.announce("train", [1])
    ahead.close()
    assert not ahead._coming
    ahead.announce("train", [2])
    assert ahead.take("train", [2]).tolist() == [20]
    assert ahead.take("train", [1]).tolist() == [10]
    ahead.close()


@pytest.mark.parametrize("kind", ["train", "evaluation"])
def test_batches_are_announced_some_batches_before_they_come(kind: str) -> None:
    lengths = np.arange(1, 41)
    make = TrainBatches if kind == "train" else EvaluationBatches
    plain = list(make(lengths, 4, 64))
    batches = make(lengths, 4, 64)
    announced: list[list[int]] = []
    batches.announce = announced.append
    for i, (indices, length) in enumerate(batches):
        assert announced[i] == indices
        assert len(announced) == min(i + 1 + AHEAD, len(plain))
        assert (indices, length) == plain[i]


def test_a_run_that_reads_from_disk_takes_what_was_read_ahead(
    train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    readings: list[Reading] = []

    class Watched(ReadAhead):
        def __init__(self, gather: Callable[[str, Sequence[int]], Tensor]) -> None:
            reading = Reading()
            readings.append(reading)

            def watched(split: str, indices: Sequence[int]) -> Tensor:
                reading(split, indices)
                return gather(split, indices)

            super().__init__(watched)

    monkeypatch.setattr(frozen_prefix, "ReadAhead", Watched)
    held = train("trainer.max_epochs=1", folder="held")
    assert not readings
    mapped = train("trainer.max_epochs=1", "cache.max_gb=0", folder="mapped")
    (reading,) = readings
    assert all("read-ahead" in name for name in reading.threads)
    assert len(reading.threads) > 8
    assert mapped.metrics["last"]["test"]["loss"] == held.metrics["last"]["test"]["loss"]
    assert not any("read-ahead" in thread.name for thread in threading.enumerate())
    monkeypatch.setattr(ClassifierModule, "on_train_epoch_end", fail)
    with pytest.raises(RuntimeError, match="broken off"):
        train("trainer.max_epochs=1", "cache.max_gb=0", folder="failed")
    assert len(readings) == 2
    assert not any("read-ahead" in thread.name for thread in threading.enumerate())


def fail(*_: object) -> None:
    raise RuntimeError("broken off")
