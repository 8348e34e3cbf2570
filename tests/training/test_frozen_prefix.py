"""What is computed once must be what would be computed every time."""

import copy
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Run, save_as_released
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gpt_classifier.data.batching import pad
from gpt_classifier.errors import UserError
from gpt_classifier.inference.text_classifier import TextClassifier
from gpt_classifier.models.classifier import GPTClassifier
from gpt_classifier.models.freezing import train_everything, train_head_only, train_last_blocks
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.pooling import POOLINGS
from gpt_classifier.training.frozen_prefix import CacheOptions, FrozenPrefix, PrefixKey, list_cache

FREEZE: dict[str, Callable[[GPTClassifier], None]] = {
    "head_only": train_head_only,
    "last_block": lambda model: train_last_blocks(model, 1),
    "last_two_blocks": lambda model: train_last_blocks(model, 2),
    "none": train_everything,
}


def all_positions(model: GPTClassifier, ids: Tensor, lengths: Tensor) -> Tensor:
    """The reference: every block at every position, then pooling, then the head."""
    T = ids.shape[1]
    real = torch.arange(T) < (T if model.pooling.reads_padding else lengths[:, None])  # (B, T) or (T,)
    seen = torch.ones(T, T, dtype=torch.bool).tril() if model.causal else real.view(-1, 1, 1, T)
    x = model.backbone.embed(ids)
    for block in model.backbone.h:
        q, k, v = block.attn.c_attn(block.ln_1(x)).view(*x.shape[:2], 3, model.backbone.config.n_head, -1).unbind(2)
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
        weights = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)
        x = x + block.attn.c_proj(torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2))
        x = x + block.mlp(block.ln_2(x))
    return model.head(model.pooling(model.backbone.ln_f(x), lengths))


def options(folder: Path, **changes: object) -> CacheOptions:
    return replace(CacheOptions(True, str(folder), max_gb=1, max_disk_gb=1), **changes)


def prefix_of(model: GPTClassifier, cache: CacheOptions, padded_length: int | None = None) -> FrozenPrefix:
    depth = model.frozen_depth()
    key = PrefixKey(
        weights=None,
        backbone=asdict(model.backbone.config),
        depth=depth,
        causal=model.causal,
        dtype="float32",
        pooling=model.pooling.name if depth == model.pooled_depth else None,
        padded_length=padded_length,
        pad_id=0,
    )
    return FrozenPrefix(key, cache)


def messages(random: np.random.Generator, n: int, longest: int, vocabulary: int) -> list[np.ndarray]:
    return [random.integers(1, vocabulary, random.integers(1, longest + 1), dtype=np.int32) for _ in range(n)]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("freeze", FREEZE)
@settings(max_examples=3, deadline=None)
@given(n_head=st.integers(1, 3), n_layer=st.integers(2, 4), causal=st.booleans(), seed=st.integers(0, 10_000))
def test_training_is_the_same_over_fifty_steps(
    tmp_path_factory: pytest.TempPathFactory,
    freeze: str,
    pooling: str,
    n_head: int,
    n_layer: int,
    causal: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    config = GPTConfig(vocab_size=40, n_positions=24, n_embd=8 * n_head, n_layer=n_layer, n_head=n_head)
    reference = GPTClassifier(GPT(config).initialise(), POOLINGS[pooling](), num_classes=3, causal=causal)
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    FREEZE[freeze](reference)
    ours = copy.deepcopy(reference)
    rows = messages(random, 30, 20, 40)
    padded_length = 22 if reference.pooling.reads_padding else None
    prefix = prefix_of(ours, options(tmp_path_factory.mktemp("cache")), padded_length)
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
        found = ours.suffix(prefix.gather("train", chosen), lengths, depth) if depth else ours(ids, lengths)
        torch.testing.assert_close(found, theirs, atol=1e-4, rtol=1e-4)
        losses = [F.cross_entropy(logits, labels) for logits in (theirs, found)]
        assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-4)
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def test_frozen_depth_is_the_largest_that_can_not_change() -> None:
    config = GPTConfig(vocab_size=40, n_positions=24, n_embd=24, n_layer=4, n_head=4)
    expected = {"head_only": 5, "last_block": 3, "last_two_blocks": 2, "none": 0}
    for name, depth in expected.items():
        model = GPTClassifier(GPT(config), POOLINGS["last_token"](), 2)
        FREEZE[name](model)
        assert model.frozen_depth() == depth
        dropped = GPTClassifier(GPT(replace(config, dropout=0.1)), POOLINGS["last_token"](), 2)
        FREEZE[name](dropped)
        assert dropped.frozen_depth() == 0


@pytest.fixture
def model() -> GPTClassifier:
    config = GPTConfig(vocab_size=40, n_positions=24, n_embd=24, n_layer=3, n_head=4)
    model = GPTClassifier(GPT(config).initialise(), POOLINGS["last_token"](), 2)
    train_last_blocks(model, 1)
    return model


@pytest.fixture
def rows() -> list[np.ndarray]:
    return messages(np.random.default_rng(1), 40, 20, 40)


class Counted:
    """Counts the messages that pass through the frozen blocks."""

    def __init__(self, model: GPTClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
        self.messages = 0
        computed = model.prefix

        def prefix(ids: Tensor, lengths: Tensor, depth: int) -> Tensor:
            self.messages += len(ids)
            return computed(ids, lengths, depth)

        monkeypatch.setattr(model, "prefix", prefix)


def test_each_distinct_message_is_computed_once_and_never_again(
    model: GPTClassifier, rows: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_other_weights_or_settings_share_nothing(model: GPTClassifier, rows: list[np.ndarray], tmp_path: Path) -> None:
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
    model: GPTClassifier, rows: list[np.ndarray], tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
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
    model: GPTClassifier, rows: list[np.ndarray], tmp_path: Path
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
    model: GPTClassifier, rows: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpt_classifier.training import frozen_prefix

    held, mapped = (prefix_of(model, options(tmp_path / str(gb), max_gb=gb)) for gb in (1, 0))
    held.fill({"train": rows}, model, 0)
    monkeypatch.setattr(frozen_prefix, "SHARD_BYTES", 5000)
    mapped.fill({"train": rows}, model, 0)
    assert len(list(mapped.folder.glob("*.safetensors"))) > 3
    torch.testing.assert_close(held.gather("train", range(40)), mapped.gather("train", range(40)))


def test_folder_that_can_not_be_written_costs_only_the_next_run(
    model: GPTClassifier, rows: list[np.ndarray], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    prefix = prefix_of(model, options(tmp_path / "file" / "cache"))
    prefix.fill({"train": rows}, model, 0)
    assert "can't be kept" in caplog.text
    assert prefix.gather("train", [0]).shape == (1, len(rows[0]), 24)


def test_what_was_not_used_for_longest_makes_room(model: GPTClassifier, rows: list[np.ndarray], tmp_path: Path) -> None:
    prefixes = []
    for age in (3, 1, 2):
        model.backbone.wte.weight.data += 1
        prefixes.append(prefix_of(model, options(tmp_path)))
        prefixes[-1].fill({"train": rows}, model, 0)
        os.utime(prefixes[-1].folder, (1e9 - age, 1e9 - age))
    model.backbone.wte.weight.data += 1
    size = sum(entry.gb for entry in list_cache(tmp_path)) / 3
    last = prefix_of(model, options(tmp_path, max_disk_gb=2.9 * size))
    last.fill({"train": rows}, model, 0)
    assert [prefix.folder.exists() for prefix in prefixes] == [False, True, False]
    assert last.folder.exists()


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
    assert "not kept: cache.enabled=false" in found["off"][1]
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
    classifier = TextClassifier.from_checkpoint(best, precision="32-true")
    texts = run.texts("test")
    accuracy = np.mean(np.array(classifier.predict(texts)) == run.labels("test"))
    assert accuracy == pytest.approx(run.metrics["best"]["test"]["accuracy"])

    whole = {**GPTClassifier(GPT(config), POOLINGS["last_token"](), 2).state_dict(), **classifier.model.state_dict()}
    ids, lengths = pad([np.arange(1, 9, dtype=np.int32)] * 2, 9, 0)
    same = GPTClassifier(GPT(config), POOLINGS["last_token"](), 2).eval()
    same.load_state_dict(whole)
    with torch.no_grad():
        assert torch.equal(same(ids, lengths), classifier.model(ids, lengths))

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
    run = train(f"model.weights={first}", "trainer.max_epochs=1")
    last = run.folder / "checkpoints" / "last.ckpt"
    with pytest.raises(SystemExit):
        train(f"model.weights={second}", f"ckpt_path={last}", folder="resumed")
    assert f"was trained with model.weights {first}, but this run has {second}" in capfd.readouterr().err
    shutil.rmtree(second)
    train(f"model.weights={first}", f"ckpt_path={last}", folder="resumed")


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_torch_compile_gives_the_same_logits(model: GPTClassifier) -> None:
    ids, lengths = pad([np.arange(1, 9, dtype=np.int32)] * 2, 9, 0)
    with torch.no_grad():
        expected = model(ids, lengths)
        model.compile_blocks()
        torch.testing.assert_close(model(ids, lengths), expected, atol=1e-5, rtol=1e-4)
