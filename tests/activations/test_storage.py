"""The types that activations are kept in."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Run

from gpt_classifier.activations.cache_folder import PrefixKey
from gpt_classifier.activations.frozen_prefix import CacheOptions, FrozenPrefix
from gpt_classifier.activations.memory_cache import clear_memory_cache
from gpt_classifier.activations.storage import disk_bytes, kept_width, message_bytes, pack, unpack
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.freezing import train_head_only, train_last_blocks
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.pooling import POOLINGS
from gpt_classifier.schema import CACHE_TYPES

KEY = PrefixKey("ab", {"family": "gpt2", "n_layer": 2}, 48, 1, "float32", None, None, None)
ERROR = {"float32": 0.0, "bfloat16": 2**-8, "int8": 0.5 / 127}
"""Largest difference of a value, as part of the largest of its position."""


def test_keys_of_earlier_versions_are_the_same_today() -> None:
    assert KEY.name == "09a0ad11082b1969335e68024b0a2e23"
    others = [replace(KEY, stored="int8"), replace(KEY, stored="bfloat16"), replace(KEY, window=256)]
    assert len({key.name for key in [KEY, *others]}) == 4


def test_types_of_the_option_are_those_that_there_are() -> None:
    assert list(CACHE_TYPES) == ["auto", *ERROR]


@pytest.mark.parametrize("dtype", ERROR)
def test_what_is_kept_comes_back_but_for_rounding(dtype: str) -> None:
    key = replace(KEY, stored=CacheOptions(True, None, 1, 1, dtype).stored("float32"))
    x = torch.randn(3, 5, 48) * torch.logspace(-3, 3, 5)[:, None]  # positions of very different size
    x[1, 2] = 0.0
    kept = pack(x, key)
    assert kept.shape == (3, 5, kept_width(key))
    back = unpack(kept, key)
    assert back.dtype == torch.float32
    assert ((back - x).abs() <= ERROR[dtype] * x.abs().amax(dim=-1, keepdim=True) * 1.001).all()
    assert torch.equal(unpack(torch.zeros_like(kept), key), torch.zeros_like(x))  # what pads a batch


@pytest.mark.parametrize(("dtype", "bytes_"), [(None, 4 * 48), ("bfloat16", 2 * 48), ("int8", 48 + 4)])
def test_sizes_are_those_of_the_type(dtype: str | None, bytes_: int) -> None:
    key = replace(KEY, stored=dtype)
    assert message_bytes(key, 10) == 10 * (bytes_ + 4) + 16
    assert disk_bytes(key, [10] * 5) >= 5 * message_bytes(key, 10)


@pytest.mark.parametrize("place", ["disk", "mapped", "memory"])
@pytest.mark.parametrize("freeze", ["head_only", "last_block"])
@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_a_narrow_cache_gives_what_it_would_pack_wherever_it_is(
    tmp_path: Path, place: str, freeze: str, dtype: str
) -> None:
    clear_memory_cache()
    config = GPTConfig(vocab_size=40, n_positions=24, n_embd=24, n_layer=3, n_head=4)
    model = Classifier(GPT(config).initialise(), POOLINGS["max"](), 2)
    train_head_only(model) if freeze == "head_only" else train_last_blocks(model, 1)
    depth = model.frozen_depth()
    pooling = "max" if depth == model.pooled_depth else None
    key = PrefixKey(None, model.backbone.state(), 24, depth, "float32", pooling, None, None, stored=dtype)
    cache = CacheOptions(True, None if place == "memory" else str(tmp_path), 0 if place == "mapped" else 1, 1, dtype)
    random = np.random.default_rng(0)
    rows = [random.integers(1, 40, n, dtype=np.int32) for n in (1, 20, 7, 7)]
    for computed in (True, False):  # and found
        prefix = FrozenPrefix(key, cache)
        prefix.fill({"train": rows}, model, 0)
        assert prefix.gather("train", [0]).dtype == getattr(torch, dtype)
        for i, row in enumerate(rows):
            with torch.no_grad():
                expected = model.prefix(torch.from_numpy(row)[None], torch.tensor([len(row)]), depth)
            largest = expected.abs().amax(dim=-1, keepdim=True)
            found = prefix.unpack(prefix.gather("train", [i]))
            assert ((found - expected).abs() <= 1.01 * ERROR[dtype] * largest + 1e-5).all(), computed
    clear_memory_cache()


def test_a_run_keeps_what_it_is_told_to_and_says_so(train: Callable[..., Run], capsys: pytest.CaptureFixture) -> None:
    folders, losses = {}, {}
    for dtype in ("auto", "float32", "bfloat16", "int8"):
        run = train(f"cache.dtype={dtype}", folder=dtype)
        losses[dtype] = run.metrics["last"]["test"]["loss"]
        out = capsys.readouterr().out
        folders[dtype] = out.split(" distinct messages")[1].split(" from ")[1].split(",")[0]
        assert (f"figures of activations rounded to {dtype}\n" in out) == (dtype in ("bfloat16", "int8"))
        assert ("0 computed" in out) == (dtype == "float32")  # which is what auto had computed
    assert folders["auto"] == folders["float32"] != folders["int8"] != folders["bfloat16"]
    assert losses["auto"] == losses["float32"]
    assert losses["int8"] == pytest.approx(losses["float32"], abs=0.02)
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=0.02)
