"""What is computed once must be what would be computed every time."""

import copy
import errno
import logging
import os
import shutil
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Run, save_as_released
from filelock import FileLock
from safetensors.torch import save_file
from tiny_encoders import ENCODERS, config_of
from torch import Tensor

from gpt_classifier.activations import cache_folder
from gpt_classifier.activations.cache_folder import PrefixKey, list_cache
from gpt_classifier.activations.frozen_prefix import CacheOptions, FrozenPrefix, weights_hash
from gpt_classifier.activations.memory_cache import STORE, clear_memory_cache
from gpt_classifier.data.batching import pad
from gpt_classifier.device import pass_tokens
from gpt_classifier.encoders.backbones import build
from gpt_classifier.encoders.config import ARCHITECTURES
from gpt_classifier.errors import UserError
from gpt_classifier.inference.predictor import Predictor
from gpt_classifier.inference.text_classifier import TextClassifier
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.freezing import train_everything, train_head_only, train_last_blocks
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.pooling import POOLINGS

FREEZE: dict[str, Callable[[Classifier], None]] = {
    "head_only": train_head_only,
    "last_block": lambda model: train_last_blocks(model, 1),
    "last_two_blocks": lambda model: train_last_blocks(model, 2),
    "none": train_everything,
}


def all_positions(model: Classifier, ids: Tensor, lengths: Tensor) -> Tensor:
    """The reference: every block at every position, then pooling, then the head."""
    T = ids.shape[1]
    real = torch.arange(T) < (T if model.pooling.reads_padding else lengths[:, None])  # (B, T) or (T,)
    seen = torch.ones(T, T, dtype=torch.bool).tril() if model.backbone.causal else real.view(-1, 1, 1, T)
    x = model.backbone.embed(ids, lengths)
    for block in model.backbone.h:
        q, k, v = block.attn.c_attn(block.ln_1(x)).view(*x.shape[:2], 3, model.backbone.config.n_head, -1).unbind(2)
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
        weights = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)
        x = x + block.attn.c_proj(torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2))
        x = x + block.mlp(block.ln_2(x))
    return model.head(model.pooling(model.backbone.ln_f(x), lengths))


def options(folder: Path | None, **changes: object) -> CacheOptions:
    return replace(CacheOptions(True, folder and str(folder), max_gb=1, max_disk_gb=1), **changes)


def prefix_of(model: Classifier, cache: CacheOptions, padded_length: int | None = None) -> FrozenPrefix:
    depth = model.frozen_depth()
    key = PrefixKey(
        weights=None,
        backbone=model.backbone.state(),
        width=model.backbone.width,
        depth=depth,
        dtype="float32",
        pooling=model.pooling.name() if depth == model.pooled_depth else None,
        padded_length=padded_length,
        pad_id=0,
    )
    return FrozenPrefix(key, cache)


def messages(random: np.random.Generator, n: int, longest: int, vocabulary: int) -> list[np.ndarray]:
    return [random.integers(1, vocabulary, random.integers(1, longest + 1), dtype=np.int32) for _ in range(n)]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("freeze", FREEZE)
@pytest.mark.parametrize("causal", [True, False])
def test_training_is_the_same_over_fifty_steps(tmp_path: Path, freeze: str, pooling: str, causal: bool) -> None:
    random = np.random.default_rng(zlib.crc32(f"{freeze} {pooling} {causal}".encode()))
    n_head, n_layer = random.integers(1, 4).item(), random.integers(2, 5).item()
    config = GPTConfig(vocab_size=40, n_positions=24, n_embd=8 * n_head, n_layer=n_layer, n_head=n_head, causal=causal)
    reference = Classifier(GPT(config).initialise(), POOLINGS[pooling](), num_outputs=3)
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    FREEZE[freeze](reference)
    ours = copy.deepcopy(reference)
    rows = messages(random, 30, 20, 40)
    padded_length = 22 if reference.pooling.reads_padding else None
    prefix = prefix_of(ours, options(tmp_path), padded_length)
    depth = prefix.key.depth
    if depth:
        prefix.fill({"train": rows}, ours, pad_id=0)

    optimizers = [
        torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3) for model in (reference, ours)
    ]
    for _ in range(50):
        chosen = random.permutation(len(rows))[:5].tolist()
        labels = torch.from_numpy(random.integers(0, 3, 5))
        T = padded_length or max(len(rows[i]) for i in chosen)
        ids, lengths = pad([rows[i] for i in chosen], T, 0)
        theirs = all_positions(reference, ids, lengths)
        found = ours.suffix(prefix.gather("train", chosen), lengths, depth, ids) if depth else ours(ids, lengths)
        torch.testing.assert_close(found, theirs, atol=1e-4, rtol=1e-4)
        losses = [F.cross_entropy(logits, labels) for logits in (theirs, found)]
        assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-4)
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@pytest.mark.parametrize("pooling", ["first_token", "mean"])
@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_that_drops_trains_the_same_over_fifty_steps(tmp_path: Path, name: str, pooling: str) -> None:
    rates = dict.fromkeys(ARCHITECTURES[ENCODERS[name][0]].dropouts, 0.1)
    reference = Classifier(build(config_of(name, **rates)), POOLINGS[pooling](), num_outputs=3)
    train_last_blocks(reference, 1)
    reference.train()
    ours = copy.deepcopy(reference)
    rows = messages(np.random.default_rng(1), 20, 20, 50)
    prefix = prefix_of(ours, options(tmp_path))
    depth = prefix.key.depth
    assert depth == 2
    prefix.fill({"train": rows}, ours, pad_id=0)
    optimizers = [
        torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3) for model in (reference, ours)
    ]
    for step in range(50):
        chosen = np.random.default_rng(step).permutation(len(rows))[:5].tolist()
        ids, lengths = pad([rows[i] for i in chosen], max(len(rows[i]) for i in chosen), 0)
        torch.manual_seed(step)  # of dropout
        theirs = reference(ids, lengths)
        torch.manual_seed(step)
        found = ours.suffix(prefix.gather("train", chosen), lengths, depth, ids)
        torch.testing.assert_close(found, theirs, atol=1e-4, rtol=1e-4)
        for logits, optimizer in zip((theirs, found), optimizers, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(logits, torch.tensor(chosen) % 3).backward()
            optimizer.step()


def test_frozen_depth_is_the_largest_that_can_not_change() -> None:
    config = GPTConfig(vocab_size=40, n_positions=24, n_embd=24, n_layer=4, n_head=4)
    expected = {"head_only": 5, "last_block": 3, "last_two_blocks": 2, "none": 0}
    for name, depth in expected.items():
        model = Classifier(GPT(config), POOLINGS["last_token"](), 2)
        FREEZE[name](model)
        assert model.frozen_depth() == depth
        dropped = Classifier(GPT(replace(config, dropout=0.1)), POOLINGS["last_token"](), 2)
        FREEZE[name](dropped)
        assert dropped.frozen_depth() == 0


@pytest.fixture
def model() -> Classifier:
    config = GPTConfig(vocab_size=40, n_positions=24, n_embd=24, n_layer=3, n_head=4)
    model = Classifier(GPT(config).initialise(), POOLINGS["last_token"](), 2)
    train_last_blocks(model, 1)
    return model


@pytest.fixture
def rows() -> list[np.ndarray]:
    return messages(np.random.default_rng(1), 40, 20, 40)


class Counted:
    """Counts the messages that pass through the frozen blocks."""

    def __init__(self, model: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
        self.messages = 0
        computed = model.prefix

        def prefix(ids: Tensor, lengths: Tensor, depth: int) -> Tensor:
            self.messages += len(ids)
            return computed(ids, lengths, depth)

        monkeypatch.setattr(model, "prefix", prefix)


def test_each_distinct_message_is_computed_once_and_never_again(
    model: Classifier, rows: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(model, monkeypatch)
    distinct = len({row.tobytes() for row in rows})
    first = prefix_of(model, options(tmp_path))
    first.fill({"train": rows[:30] + rows[:5], "val": rows[20:]}, model, 0)
    assert counted.messages == distinct
    second = prefix_of(model, options(tmp_path))
    second.fill({"train": rows[10:], "test": rows[:10]}, model, 0)  # another split of the same messages
    assert counted.messages == distinct
    assert torch.equal(first.gather("val", [0, 3]), second.gather("train", [10, 13]))
    third = prefix_of(model, options(tmp_path))
    third.fill({"train": [*rows, np.array([9] * 21, dtype=np.int32)]}, model, 0)
    assert counted.messages == distinct + 1


def test_other_weights_or_settings_share_nothing(model: Classifier, rows: list[np.ndarray], tmp_path: Path) -> None:
    folders = set()
    for change in ("nothing", "weights", "heads", "depth"):
        if change == "weights":
            model.backbone.h[0].mlp.c_fc.weight.data[0, 0] += 1
        if change == "depth":
            train_last_blocks(model, 2)
        prefix = prefix_of(model, options(tmp_path))
        if change == "heads":
            prefix.key = replace(prefix.key, backbone={**prefix.key.backbone, "n_head": 2})
        prefix.fill({"train": rows}, model, 0)
        folders.add(prefix.folder)
    assert len(folders) == 4


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text", "foreign"])
def test_damaged_or_foreign_shard_is_computed_again(
    model: Classifier, rows: list[np.ndarray], tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    first = prefix_of(model, options(tmp_path))
    first.fill({"train": rows}, model, 0)
    (shard,) = first.folder.glob("*.safetensors")
    content = bytearray(shard.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flip":
        content[-100] ^= 1
    elif damage == "empty":
        content = bytearray()
    elif damage == "text":
        content = bytearray(b"something else")
    else:
        other = copy.deepcopy(model)
        other.backbone.wte.weight.data += 1
        foreign = prefix_of(other, options(tmp_path / "other"))
        foreign.fill({"train": rows}, other, 0)
        content = bytearray(next(foreign.folder.glob("*.safetensors")).read_bytes())
    shard.write_bytes(content)
    second = prefix_of(model, options(tmp_path))
    with caplog.at_level(logging.INFO):
        second.fill({"train": rows}, model, 0)
    assert "damaged or not ours" in caplog.text
    assert torch.equal(first.gather("train", range(40)), second.gather("train", range(40)))
    assert len(list(second.folder.iterdir())) == 1


def test_half_written_shard_of_another_run_is_not_read(
    model: Classifier, rows: list[np.ndarray], tmp_path: Path
) -> None:
    first = prefix_of(model, options(tmp_path))
    first.fill({"train": rows}, model, 0)
    (shard,) = first.folder.glob("*.safetensors")
    part = shard.with_name(f"{shard.stem}.99999.part")
    part.write_bytes(shard.read_bytes()[:500])
    second = prefix_of(model, options(tmp_path))
    second.fill({"train": rows}, model, 0)
    assert part.exists()  # it is the other run's


def test_activations_beyond_the_memory_limit_are_mapped_and_the_same(
    model: Classifier, rows: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpt_classifier.activations import frozen_prefix

    held, mapped = (prefix_of(model, options(tmp_path / str(gb), max_gb=gb)) for gb in (1, 0))
    held.fill({"train": rows}, model, 0)
    monkeypatch.setattr(frozen_prefix, "SHARD_BYTES", 5000)
    mapped.fill({"train": rows}, model, 0)
    assert len(list(mapped.folder.glob("*.safetensors"))) > 3
    torch.testing.assert_close(held.gather("train", range(40)), mapped.gather("train", range(40)))


def test_folder_that_can_not_be_written_costs_only_the_next_run(
    model: Classifier, rows: list[np.ndarray], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    prefix = prefix_of(model, options(tmp_path / "file" / "cache"))
    prefix.fill({"train": rows}, model, 0)
    assert "can't be kept" in caplog.text
    assert prefix.gather("train", [0]).shape == (1, len(rows[0]), 24)


def test_what_was_not_used_for_longest_makes_room(model: Classifier, rows: list[np.ndarray], tmp_path: Path) -> None:
    prefixes = []
    for age in (3, 1, 2):
        model.backbone.wte.weight.data += 1
        prefixes.append(prefix_of(model, options(tmp_path)))
        prefixes[-1].fill({"train": rows}, model, 0)
        (shard,) = prefixes[-1].folder.glob("*.safetensors")
        os.utime(shard, (1e9 - age, 1e9 - age))
    model.backbone.wte.weight.data += 1
    size = sum(entry.gb for entry in list_cache(tmp_path)) / 3
    last = prefix_of(model, options(tmp_path, max_disk_gb=2.9 * size))
    last.fill({"train": rows}, model, 0)
    assert [prefix.folder.exists() for prefix in prefixes] == [False, True, False]
    assert last.folder.exists()


def kept_gb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9


def batches_of_messages(n: int) -> list[list[np.ndarray]]:
    """Lists of 40 messages of 20 tokens, none of them twice."""
    random = np.random.default_rng(2)
    return [[random.integers(1, 40, 20, dtype=np.int32) for _ in range(40)] for _ in range(n)]


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpt_classifier.activations.frozen_prefix.SHARD_BYTES", 12_000)


@pytest.mark.usefixtures("small_shards")
def test_one_key_stays_within_the_disk_limit(
    model: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = batches_of_messages(5)
    limit = 1.5 * prefix_of(model, options(tmp_path)).size_gb({"train": lists[0]})
    for rows in lists:
        prefix_of(model, options(tmp_path, max_disk_gb=limit)).fill({"train": rows}, model, 0)
        assert 0.9 * limit / 1.5 < kept_gb(tmp_path) <= limit
    counted = Counted(model, monkeypatch)
    prefix_of(model, options(tmp_path, max_disk_gb=limit)).fill({"train": lists[-1]}, model, 0)
    assert counted.messages == 0
    prefix_of(model, options(tmp_path, max_disk_gb=limit)).fill({"train": lists[0]}, model, 0)
    assert counted.messages == 40


def test_use_makes_a_shard_recent(model: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = batches_of_messages(3)
    for rows in (first, second):
        prefix_of(model, options(tmp_path)).fill({"train": rows}, model, 0)
    for path in tmp_path.rglob("*.safetensors"):
        os.utime(path, (1e9, 1e9))
    prefix_of(model, options(tmp_path)).fill({"train": first}, model, 0)
    prefix_of(model, options(tmp_path, max_disk_gb=2.9 / 2 * kept_gb(tmp_path))).fill({"train": third}, model, 0)
    counted = Counted(model, monkeypatch)
    for rows, computed in ((first, 0), (third, 0), (second, 40)):
        counted.messages = 0
        prefix_of(model, options(tmp_path)).fill({"train": rows}, model, 0)
        assert counted.messages == computed


def test_run_that_does_not_fit_keeps_nothing_and_deletes_nothing(
    model: Classifier, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = batches_of_messages(2)
    prefix_of(model, options(tmp_path)).fill({"train": first}, model, 0)
    files = sorted(tmp_path.rglob("*"))
    prefix = prefix_of(model, options(tmp_path, max_disk_gb=1.1 * kept_gb(tmp_path)))
    prefix.fill({"train": first + second}, model, 0)
    assert "can't be kept" in caplog.text
    assert "max_disk_gb" in caplog.text
    assert sorted(tmp_path.rglob("*")) == files
    assert prefix.gather("train", range(80)).shape == (80, 20, 24)


def test_shards_of_an_older_format_and_parts_make_room_too(model: Classifier, tmp_path: Path) -> None:
    old, killed, users = tmp_path / ("0" * 32), tmp_path / ("1" * 32), tmp_path / "mine"
    for folder in (old, killed, users):
        folder.mkdir()
    key = '{"backbone": {"n_layer": 2}, "depth": 1, "dtype": "float32", "format": 3}'
    save_file(
        {"lengths": torch.tensor([3, 4]), "activations": torch.ones(100, 100)}, old / "a.safetensors", {"key": key}
    )
    (killed / "b.123.part").write_bytes(bytes(40_000))
    (users / "c.safetensors").write_bytes(bytes(40_000))
    entries = list_cache(tmp_path)
    assert [(entry.folder, entry.key.get("depth"), entry.messages) for entry in entries] == [
        (old, 1, 2),
        (killed, None, 0),
    ]
    rows = batches_of_messages(1)[0]
    prefix = prefix_of(model, options(tmp_path))
    limit = 1.05 * prefix.size_gb({"train": rows})
    prefix_of(model, options(tmp_path, max_disk_gb=limit)).fill({"train": rows}, model, 0)
    assert not old.exists()
    assert not killed.exists()
    assert users.exists()


def damage(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("max_gb", [1, 0])
def test_only_the_wanted_messages_are_read_and_verified(
    model: Classifier, tmp_path: Path, caplog: pytest.LogCaptureFixture, max_gb: float
) -> None:
    rows = batches_of_messages(1)[0]
    first = prefix_of(model, options(tmp_path))
    first.fill({"train": rows}, model, 0)
    shards = {path: path.read_bytes() for path in first.folder.glob("*.safetensors")}
    wanted = [row for row in rows if row.tobytes() in shards[min(shards)]][:1]
    for path, content in shards.items():
        activations = first.gather("train", range(40)).numpy()
        for row, message in zip(rows, activations, strict=True):
            if row.tobytes() in content and row is not wanted[0]:
                damage(path, content.index(message.tobytes()))
    second = prefix_of(model, options(tmp_path, max_gb=max_gb))
    with caplog.at_level(logging.INFO):
        second.fill({"train": wanted}, model, 0)
    assert "damaged" not in caplog.text
    assert "1 from" in caplog.text
    assert set(first.folder.glob("*.safetensors")) == set(shards)
    with caplog.at_level(logging.INFO):
        second.fill({"train": rows}, model, 0)
    assert caplog.text.count("damaged") == len(shards)
    torch.testing.assert_close(first.gather("train", range(40)), second.gather("train", range(40)))


@pytest.mark.parametrize("max_gb", [1, 0])
@pytest.mark.parametrize(
    ("written", "changed"), [('"dtype":"F32"', '"dtype":"I32"'), ('"shape":[800,24]', '"shape":[24,800]')]
)
def test_header_with_another_type_or_shape_is_refused(
    model: Classifier,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    written: str,
    changed: str,
    max_gb: float,
) -> None:
    rows = batches_of_messages(1)[0]
    first = prefix_of(model, options(tmp_path))
    first.fill({"train": rows}, model, 0)
    (shard,) = first.folder.glob("*.safetensors")
    content = shard.read_bytes()
    assert content.count(written.encode()) == 1
    shard.write_bytes(content.replace(written.encode(), changed.encode()))
    second = prefix_of(model, options(tmp_path, max_gb=max_gb))
    second.fill({"train": rows}, model, 0)
    assert "damaged or not ours" in caplog.text
    assert torch.equal(first.gather("train", range(40)), second.gather("train", range(40)))


DELETE = """
import pathlib, shutil, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), stop.set())).start()
stop = threading.Event()
print("ready", flush=True)
while not stop.is_set():
    for folder in pathlib.Path(sys.argv[1]).glob("*"):
        shutil.rmtree(folder, ignore_errors=True)
"""


@pytest.fixture
def deleting(tmp_path: Path) -> Iterator[None]:
    """Another process deletes all of `tmp_path`, over and over."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", DELETE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    yield
    process.communicate()


@pytest.mark.usefixtures("small_shards", "deleting")
@pytest.mark.parametrize("max_gb", [1, 0])
def test_another_process_may_delete_at_any_time(model: Classifier, tmp_path: Path, max_gb: float) -> None:
    rows = batches_of_messages(1)[0]
    expected = model.prefix(*pad(rows, 20, 0), 2).detach()
    for _ in range(5):
        prefix = prefix_of(model, options(tmp_path, max_gb=max_gb))
        prefix.fill({"train": rows}, model, 0)
        torch.testing.assert_close(prefix.gather("train", range(40)), expected)
        for entry in list_cache(tmp_path):
            entry.delete()


@pytest.mark.usefixtures("small_shards")
def test_of_runs_at_the_same_time_one_computes_a_cold_key(
    model: Classifier, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = batches_of_messages(1)[0]
    models = [copy.deepcopy(model) for _ in range(4)]
    counted = [Counted(each, monkeypatch) for each in models]
    prefixes = [prefix_of(each, options(tmp_path)) for each in models]
    barrier = threading.Barrier(4)

    def fill(prefix: FrozenPrefix, model: Classifier) -> None:
        barrier.wait()
        prefix.fill({"train": rows}, model, 0)

    threads = [threading.Thread(target=fill, args=pair) for pair in zip(prefixes, models, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not [record for record in caplog.records if record.levelname != "INFO"]
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".safetensors"}
    for prefix in prefixes[1:]:
        assert torch.equal(prefix.gather("train", range(40)), prefixes[0].gather("train", range(40)))
    assert sum(each.messages for each in counted) == len({row.tobytes() for row in rows})


def test_no_process_waits_long_for_the_one_that_waits_for_another_run(
    model: Classifier, rows: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_folder, "PATIENCE", 0.02)
    prefixes = [prefix_of(model, options(tmp_path)) for _ in range(2)]
    met, decisions = threading.Barrier(2, timeout=0.5), [True, True]

    def fill(rank: int) -> None:
        def agree(decision: bool) -> bool:
            decisions[rank] = decision
            met.wait()
            agreed = all(decisions)
            met.wait()
            return agreed

        prefixes[rank].fill({"train": rows}, copy.deepcopy(model), 0, rank, 2, agree)

    threads = [threading.Thread(target=fill, args=[rank]) for rank in range(2)]
    key = replace(prefixes[0].key, weights=weights_hash(model))
    with FileLock(tmp_path / f"{key.name}.lock"):  # another run's
        for thread in threads:
            thread.start()
        threads[0].join(1.0)
        assert all(thread.is_alive() for thread in threads)
    for thread in threads:
        thread.join()
    assert torch.equal(prefixes[0].gather("train", [0, 7]), prefixes[1].gather("train", [0, 7]))


def test_a_directory_that_takes_no_lock_is_used_all_the_same(
    model: Classifier,
    rows: list[np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(lock: FileLock, timeout: float | None = None) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    prefix_of(model, options(tmp_path)).fill({"train": rows}, model, 0)
    counted = Counted(model, monkeypatch)
    prefix_of(model, options(tmp_path)).fill({"train": rows}, model, 0)
    assert counted.messages == 0
    assert "takes no lock" in caplog.text


# in memory only


@pytest.fixture
def empty_memory() -> Iterator[None]:
    clear_memory_cache()
    yield
    clear_memory_cache()


@pytest.mark.usefixtures("empty_memory")
def test_without_a_directory_later_fits_of_the_process_compute_nothing_and_nothing_is_written(
    model: Classifier, rows: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = copy.deepcopy(model)
    other.backbone.wte.weight.data += 1
    counted = Counted(model, monkeypatch)
    first = prefix_of(model, options(None))
    first.fill({"train": rows}, model, 0)
    computed = counted.messages
    second = prefix_of(model, options(None))
    second.fill({"train": rows[20:], "val": rows[:20]}, model, 0)
    assert counted.messages == computed == len({row.tobytes() for row in rows})
    assert torch.equal(first.gather("train", [21, 39]), second.gather("train", [1, 19]))
    assert list(tmp_path.rglob("*")) == []

    different = prefix_of(other, options(None))
    different.fill({"train": rows}, other, 0)
    assert not torch.equal(first.gather("train", [0]), different.gather("train", [0]))

    clear_memory_cache()
    prefix_of(model, options(None)).fill({"train": rows}, model, 0)
    assert counted.messages == 2 * computed


@pytest.mark.usefixtures("empty_memory")
def test_memory_keeps_what_was_used_last_up_to_its_bound_and_what_is_in_use_stays_valid(
    model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = batches_of_messages(3)
    one = 40 * 20 * 24 * 4  # bytes of the activations of one list
    bound = options(None, max_gb=2.5 * one / 1e9)
    prefixes = [prefix_of(model, bound) for _ in lists]
    for prefix, rows in zip(prefixes[:2], lists[:2], strict=True):
        prefix.fill({"train": rows}, model, 0)
    expected = prefixes[1].gather("train", range(40))
    prefix_of(model, bound).fill({"train": lists[0]}, model, 0)
    prefixes[2].fill({"train": lists[2]}, model, 0)
    assert 2.4 * one < STORE.nbytes <= 2.5 * one
    counted = Counted(model, monkeypatch)
    for used in (0, 2):
        prefix_of(model, bound).fill({"train": lists[used]}, model, 0)
    assert counted.messages == 0
    prefix_of(model, bound).fill({"train": lists[1]}, model, 0)
    assert counted.messages == 20  # half of them have made room
    clear_memory_cache()
    assert STORE.nbytes == 0
    assert torch.equal(prefixes[1].gather("train", range(40)), expected)


@pytest.mark.usefixtures("empty_memory")
def test_threads_share_the_memory(model: Classifier) -> None:
    lists = batches_of_messages(2)
    one = 40 * 20 * 24 * 4
    expected = [model.prefix(*pad(rows, 20, 0), 2).detach() for rows in lists]
    right = []

    def fits(turn: int) -> None:
        ours = copy.deepcopy(model)
        for i in range(5):
            which = (turn + i) % 2
            prefix = prefix_of(ours, options(None, max_gb=1.5 * one / 1e9))
            prefix.fill({"train": lists[which]}, ours, 0)
            found = prefix.gather("train", range(40))
            right.append(torch.allclose(found, expected[which], atol=1e-5))

    threads = [threading.Thread(target=fits, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 20
    assert STORE.nbytes <= 1.5 * one


def test_a_pass_takes_as_many_tokens_as_its_device_is_made_for(
    model: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    computed = model.prefix

    def prefix(ids: Tensor, lengths: Tensor, depth: int) -> Tensor:
        sizes.append(ids.numel())
        return computed(ids, lengths, depth)

    monkeypatch.setattr(model, "prefix", prefix)
    rows = [row for rows in batches_of_messages(6) for row in rows]  # 4,800 tokens
    prefix_of(model, options(tmp_path)).fill({"train": rows}, model, 0)
    assert max(sizes) <= pass_tokens(torch.device("cpu")) < pass_tokens(torch.device("cuda"))
    assert len(sizes) == 3


# by the real command


def test_run_is_the_same_with_the_cache_and_without(train: Callable[..., Run], capsys: pytest.CaptureFixture) -> None:
    found = {}
    for name, overrides in {
        "cold": [],
        "warm": [],
        "mapped": ["cache.max_gb=0"],
        "off": ["cache.enabled=false"],
        "too large": ["cache.max_disk_gb=0"],
    }.items():
        run = train(*overrides, "freeze=last_n_blocks", "freeze.n=1", folder=name)
        found[name] = (run.metrics, capsys.readouterr().out)
    distinct = len({*run.texts("train"), *run.texts("val"), *run.texts("test")})
    assert f"{distinct} computed" in found["cold"][1]
    assert "0 computed" in found["warm"][1]
    assert "not cached: cache.enabled=false" in found["off"][1]
    assert "more than cache.max_disk_gb=0" in found["too large"][1]
    for metrics, _ in found.values():
        for stage in ("start", "last", "best"):
            for split in ("train", "val", "test"):
                expected = found["cold"][0][stage][split]
                assert metrics[stage][split]["loss"] == pytest.approx(expected["loss"], abs=1e-4)
                assert metrics[stage][split]["confusion_matrix"] == expected["confusion_matrix"]


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["pooling=padded_mean"], "reads padding, and data.pad_to=batch changes it"),
        (["model.dropout=0.1"], "dropout acts in the frozen blocks too"),
        (["freeze=none"], "every block is trained"),
    ],
)
def test_run_says_why_nothing_is_kept(
    train: Callable[..., Run], capsys: pytest.CaptureFixture, overrides: list[str], reason: str
) -> None:
    train(*overrides, "trainer.max_epochs=1")
    assert capsys.readouterr().out.count(reason) == 1


def test_sweep_over_everything_but_the_messages_pays_once(
    train: Callable[..., Run], capsys: pytest.CaptureFixture
) -> None:
    train("model.weights=random", "trainer.max_epochs=1", "data.train_size=null")
    capsys.readouterr()
    for overrides in (
        ["optimizer.lr=1e-5", "trainer.max_epochs=2", "data.batch_size=4"],
        ["data.split_seed=7"],  # another split: mostly the same messages
    ):
        train(*overrides, "data.train_size=null", folder="again")
        found = capsys.readouterr().out.split("distinct messages")[1]
        computed = int(found.split(" computed")[0].split()[-1])
        assert computed == 0 if "data.split_seed=7" not in overrides else computed < 120


def test_checkpoint_on_a_file_of_weights_holds_what_was_trained_and_finds_the_rest(
    train: Callable[..., Run], tmp_path: Path
) -> None:
    config = GPTConfig(vocab_size=8192, n_embd=48, n_layer=2, n_head=6)
    weights = save_as_released(GPT(config).initialise(), tmp_path / "weights")
    run = train(f"model.weights={weights}", "trainer.max_epochs=1")
    best = run.folder / "checkpoints" / "best.ckpt"
    assert all(".h.1." in name or ".ln_f." in name or "head" in name for name in run.checkpoint()["state_dict"])
    classifier, predictor = TextClassifier.load(best, precision="32-true"), Predictor.open(best, precision="32-true")
    texts = run.texts("test")
    accuracy = np.mean(np.array(classifier.predict(texts)) == run.labels("test"))
    assert accuracy == pytest.approx(run.metrics["best"]["test"]["accuracy"])

    whole = {**Classifier(GPT(config), POOLINGS["last_token"](), 2).state_dict(), **predictor.model.state_dict()}
    ids, lengths = pad([np.arange(1, 9, dtype=np.int32)] * 2, 9, 0)
    same = Classifier(GPT(config), POOLINGS["last_token"](), 2).eval()
    same.load_state_dict(whole)
    with torch.no_grad():
        torch.testing.assert_close(same(ids, lengths), predictor.model(ids, lengths), atol=1e-5, rtol=1e-5)

    moved = weights.rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"are not at .* Give their place with --weights"):
        TextClassifier.from_checkpoint(best)
    again = TextClassifier.from_checkpoint(best, weights=moved, precision="32-true")
    assert np.array_equal(again.predict_proba(texts), classifier.predict_proba(texts))
    other = save_as_released(GPT(config).initialise(), tmp_path / "weights")
    with pytest.raises(UserError, match=f"those at {other} are other ones"):
        TextClassifier.from_checkpoint(best)


def test_resuming_on_other_weights_is_refused(
    train: Callable[..., Run], tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    config = GPTConfig(vocab_size=8192, n_embd=48, n_layer=2, n_head=6)
    first, second = (save_as_released(GPT(config).initialise(), tmp_path / name) for name in ("one", "two"))
    run = train(f"model.weights={first}", "scheduler=none", "trainer.max_epochs=1")
    last = run.folder / "checkpoints" / "last.ckpt"
    with pytest.raises(SystemExit):
        train(f"model.weights={second}", f"ckpt_path={last}", folder="resumed")
    assert f"was trained with model.weights {first}, but this run has {second}" in capfd.readouterr().err
    shutil.rmtree(second)
    train(f"model.weights={first}", "scheduler=none", f"ckpt_path={last}", folder="resumed")


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_torch_compile_gives_the_same_logits() -> None:
    config = GPTConfig(vocab_size=40, n_positions=24, n_embd=8, n_layer=1, n_head=2)  # compiling takes its time
    model = Classifier(GPT(config).initialise(), POOLINGS["last_token"](), 2)
    ids, lengths = pad([np.arange(1, 9, dtype=np.int32)] * 2, 9, 0)
    with torch.no_grad():
        expected = model(ids, lengths)
        model.compile_blocks()
        torch.testing.assert_close(model(ids, lengths), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("evaluate", "distinct"), [("final", 173), ("val", 100), ("never", 64)])
def test_what_is_not_measured_is_not_computed(
    train: Callable[..., Run], capsys: pytest.CaptureFixture, evaluate: str, distinct: int
) -> None:
    train(f"evaluate={evaluate}", "trainer.max_epochs=1")
    assert f"prefix   {distinct} distinct messages" in capsys.readouterr().out
