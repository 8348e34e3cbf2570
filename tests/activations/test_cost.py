"""What keeping activations costs is said before it is paid."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from conftest import Run

from gpt_classifier.activations.cache_folder import PrefixKey
from gpt_classifier.activations.cost import FEW_PASSES, seconds_of, smaller_settings, told, told_seconds

KEY = PrefixKey("ab", {"family": "gpt2"}, 768, 11, "float32", None, None, None)


def test_smaller_settings_are_narrower_types_and_half_of_the_tokens() -> None:
    lengths = [100] * 10_000 + [1000] * 10_000
    assert smaller_settings(KEY, lengths) == (
        "cache.dtype=bfloat16 17 GB, cache.dtype=int8 8.5 GB, data.max_length=256 11 GB"
    )
    narrow = replace(KEY, stored="int8")
    assert smaller_settings(narrow, lengths) == "data.max_length=256 2.8 GB"
    assert smaller_settings(replace(KEY, dtype="bfloat16"), [10] * 10_000) == "cache.dtype=int8 0.078 GB"
    assert smaller_settings(replace(narrow, pooling="max", depth=13), lengths) == ""


def test_sizes_and_times_are_told_as_people_tell_them() -> None:
    assert [told(gb) for gb in (0.0123, 0.31, 3.96, 9.96, 123.4)] == ["0.012 GB", "0.31 GB", "4 GB", "10 GB", "123 GB"]
    assert [told_seconds(s) for s in (0.4, 41, 150, 5000, 9000)] == ["0 s", "41 s", "2 min", "83 min", "2.5 h"]


def test_seconds_are_those_of_a_typical_pass_times_all_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def compute(batch: list[np.ndarray]) -> None:
        now[0] += 0.01 * sum(map(len, batch))

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    batches = [[np.zeros(n, dtype=np.int32)] for n in range(1, 41)]
    assert seconds_of(batches, compute) == pytest.approx(0.01 * sum(range(1, 41)))
    assert math.isnan(seconds_of(batches[: FEW_PASSES - 1], compute))


def test_a_run_says_what_it_is_about_to_compute_and_what_less_would_cost(
    train: Callable[..., Run], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt_classifier.activations.frozen_prefix.SHARD_BYTES", 100_000)
    monkeypatch.setattr("gpt_classifier.activations.frozen_prefix.pass_tokens", lambda device: 100)
    train("trainer.max_epochs=1")
    said = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("prefix"))
    for part in ("computing ", " tokens, about ", "they take 0.", "frozen_prefix", ". Less: cache.dtype=bfloat16 0."):
        assert part in said
    train("trainer.max_epochs=1", "cache.max_gb=0", folder="again")
    out = capsys.readouterr().out
    assert "computing" not in out
    assert "read as they are needed, as they are more than cache.max_gb=0" in out


def test_a_run_that_is_too_large_says_what_would_not_be(
    train: Callable[..., Run], capsys: pytest.CaptureFixture
) -> None:
    train("trainer.max_epochs=1", "cache.max_disk_gb=0.0001")
    out = capsys.readouterr().out
    assert "more than cache.max_disk_gb=0.0001. Less: cache.dtype=bfloat16 0." in out
    assert ", cache.dtype=int8 0." in out
