"""Pretraining, by the real command."""

import dataclasses
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, Run
from safetensors.torch import load_file

from gpt_classifier.errors import UserError
from gpt_classifier.inference.text_classifier import TextClassifier
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.weights import load_backbone
from gpt_classifier.pretraining.corpus import Windows
from gpt_classifier.pretraining.loss import masked_token_loss, next_token_loss
from gpt_classifier.pretraining.module import PretrainingModule
from gpt_classifier.pretraining.optimizer import adamw, muon
from gpt_classifier.pretraining.vocabulary import transferred
from gpt_classifier.tokenizers.byte_level import encoding_of, load_encoding

TINY = [
    "trainer=cpu",
    "trainer.precision=32-true",
    "trainer.log_every_n_steps=1",
    "data.val_every=10",
    "model.backbone.vocab_size=300",
    "model.backbone.n_positions=64",
    "model.backbone.n_embd=24",
    "model.backbone.n_layer=2",
    "windows=[16,64]",
    "batch_tokens=128",
    "tokens=2560",
    "val_steps=10",
    "checkpoint_steps=10",
    "optimizer.lr=1e-2",
]
SIZES = GPTConfig(vocab_size=300, n_positions=64, n_embd=24, n_layer=2, n_head=6)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    stories = [f"Story {i}: the cat sat on the mat and the dog lay on the rug {i} times." for i in range(200)]
    path.write_text("\n<|endoftext|>\n".join(stories))
    return path


@pytest.fixture
def pretrain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: Path) -> Callable[..., Path]:
    spec = importlib.util.spec_from_file_location("pretrain", ROOT / "scripts" / "pretrain.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*overrides: str, folder: str = "run") -> Path:
        base = [*TINY, f"data.path={text}", f"hydra.run.dir={tmp_path / folder}"]
        monkeypatch.setattr(sys, "argv", ["scripts/pretrain.py", *base, *overrides])
        module.main()
        return tmp_path / folder

    return run


def test_what_it_leaves_is_a_model_that_others_load(pretrain: Callable[..., Path], text: Path) -> None:
    model_folder = pretrain() / "model"
    ours, _ = load_backbone(SIZES, model_folder)
    from transformers import GPT2LMHeadModel

    theirs = GPT2LMHeadModel.from_pretrained(model_folder, dtype=torch.float32).eval()
    ids = torch.randint(0, 300, (2, 64))
    with torch.no_grad():
        logits = ours.next_token_logits(ours.hidden(ids))
        torch.testing.assert_close(logits, theirs(ids).logits, atol=1e-4, rtol=1e-4)
    card = (model_folder / "README.md").read_text()
    assert "2,560" in card
    assert "data.path=" in card
    assert "nats per token" in card


def test_it_learns(pretrain: Callable[..., Path]) -> None:
    folder = pretrain("tokens=12800", "val_steps=99") / "model"
    encoding = load_encoding(str(folder / "vocabulary.tiktoken"))
    model, _ = load_backbone(SIZES, folder)
    ids = torch.tensor([encoding.encode_ordinary("Story 7: the cat sat on the mat and the dog lay")])
    with torch.no_grad():
        batch = Windows(ids[:, :-1], ids[:, 1:])
        assert next_token_loss(model, batch) / batch.ids.numel() < 2.5  # uniform is 5.7


def test_hidden_tokens_are_learned_with_the_whole_text_in_sight(pretrain: Callable[..., Path], text: Path) -> None:
    folders = {
        share: pretrain(f"masked.batches={share}", "tokens=25600", "val_steps=99", folder=str(share)) / "model"
        for share in (0, 0.5)
    }
    losses = {}
    for share, folder in folders.items():
        encoding = load_encoding(str(folder / "vocabulary.tiktoken"))
        model, _ = load_backbone(SIZES, folder)
        rows = [encoding.encode_ordinary(f"Story {i}: the cat sat on the mat and the dog")[:12] for i in range(10, 40)]
        ids = torch.tensor(rows)
        batch = Windows(ids, ids).hidden(0.2, np.random.default_rng(0))
        assert batch.hide is not None
        with torch.no_grad():
            losses[share] = float(masked_token_loss(model, batch) / batch.hide.sum())
    assert losses[0.5] < 0.8 * losses[0]
    assert "50% of them in batches with hidden tokens" in (folders[0.5] / "README.md").read_text()


def test_texts_of_several_files_are_learned_and_measured_each_by_itself(
    pretrain: Callable[..., Path], text: Path, capsys: pytest.CaptureFixture
) -> None:
    other = text.with_name("numbers.txt")
    other.write_text("\n<|endoftext|>\n".join(f"{i} and {i + 1} make {2 * i + 1}" for i in range(200)))
    folder = pretrain(f"data.path='{text.parent}/*.txt'")
    card = (folder / "model" / "README.md").read_text()
    assert "`text.txt`: 180 documents" in card
    assert "`numbers.txt`: 180 documents" in card
    curves = next(folder.rglob("metrics.csv")).read_text()
    assert "val/bits_per_byte/text" in curves
    assert "val/bits_per_byte/numbers" in curves
    text.with_suffix(".more.txt").write_text(text.read_text())
    with pytest.raises(SystemExit):
        pretrain(f"data.path='{text.parent}/text*.txt'", folder="twins")
    assert "some are called alike: ['text', 'text']" in capsys.readouterr().err


def test_pretrained_weights_are_learned_on_and_fine_tuned_with_their_vocabulary(
    pretrain: Callable[..., Path], train: Callable[..., Run], capsys: pytest.CaptureFixture
) -> None:
    model = pretrain() / "model"
    again = pretrain(f"model.weights={model}", folder="again") / "model"
    assert (again / "vocabulary.tiktoken").read_text() == (model / "vocabulary.tiktoken").read_text()

    sizes = [f"model.backbone.{key}={value}" for key, value in vars(SIZES).items() if key != "dropout"]
    with pytest.raises(SystemExit):
        train(f"model.weights={model}", *sizes, "model.backbone.vocab_size=8192")
    assert f"Set model.tokenizer={model / 'vocabulary.tiktoken'}" in capsys.readouterr().err
    tuned = train(f"model.weights={model}", f"model.tokenizer={model / 'vocabulary.tiktoken'}", *sizes, folder="tuned")
    (model / "vocabulary.tiktoken").unlink()  # the checkpoint carries its own
    assert TextClassifier.from_checkpoint(tuned.folder / "checkpoints" / "best.ckpt").predict(["hello"])[0] in (
        "ham",
        "spam",
    )


def test_weights_go_on_with_a_new_vocabulary(
    pretrain: Callable[..., Path], text: Path, capsys: pytest.CaptureFixture
) -> None:
    first = pretrain("tokens=12800", "val_steps=99") / "model"
    text.write_text(text.read_text().replace("mat", "settee").replace("rug", "carpet"))
    capsys.readouterr()
    losses = {}
    for weights, vocabulary in ((first, "new"), (first, "null"), ("random", "null")):
        folder = pretrain(f"model.weights={weights}", f"vocabulary={vocabulary}", "tokens=1280", folder=f"{vocabulary}")
        losses[weights, vocabulary] = float(re.findall(r"([\d.]+) bits per byte", capsys.readouterr().out)[-1])
        kept = (folder / "model" / "vocabulary.tiktoken").read_text() == (first / "vocabulary.tiktoken").read_text()
        assert kept == (weights is first and vocabulary == "null")
    assert losses[first, "new"] < losses["random", "null"]


def test_tokens_of_both_vocabularies_keep_their_embeddings_and_others_are_means() -> None:
    ranks = {bytes([value]): value for value in range(256)}
    old, new = encoding_of({**ranks, b"ab": 256}), encoding_of({**ranks, b"bc": 256, b"ab": 257, b"abc": 258})
    embedding = torch.randn(258, 4)
    rows = transferred(embedding, old, new)
    assert torch.equal(rows[:256], embedding[:256])
    assert torch.equal(rows[257], embedding[256])
    torch.testing.assert_close(rows[256], embedding[[98, 99]].mean(dim=0))
    torch.testing.assert_close(rows[258], embedding[[256, 99]].mean(dim=0))
    assert torch.equal(rows[259], embedding[257])


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_resumed_run_ends_where_an_unbroken_one_does(
    pretrain: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    optimizer: str,
) -> None:
    def interrupt(module: PretrainingModule) -> None:
        raise UserError("interrupted")

    whole = pretrain(f"pretraining@optimizer={optimizer}", folder="whole")
    with monkeypatch.context() as patch:
        patch.setattr(PretrainingModule, "on_validation_epoch_end", interrupt)  # after the tenth of twenty steps
        with pytest.raises(SystemExit):
            pretrain(f"pretraining@optimizer={optimizer}", folder="half")
    checkpoint = tmp_path / "half" / "checkpoints" / "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 10
    with pytest.raises(SystemExit):
        pretrain(f"pretraining@optimizer={optimizer}", f"ckpt_path={checkpoint}", "seed=5", folder="other")
    assert "was trained with seed 123, but this run has 5" in capsys.readouterr().err
    resumed = pretrain(f"pretraining@optimizer={optimizer}", f"ckpt_path={checkpoint}", folder="resumed")
    expected = load_file(whole / "model" / "model.safetensors")
    for name, tensor in load_file(resumed / "model" / "model.safetensors").items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.path=nowhere.txt"], "there is no file nowhere.txt"),
        (["windows=[16,48]"], "lengths that divide the context"),
        (["windows=[16]"], "and the context itself"),
        (["windows=16"], "and the context itself"),
        (["tokens=100"], "tokens: expected at least batch_tokens, 128"),
        (["trainer.accumulate_grad_batches=2"], "batch_tokens is the size of a step"),
        (["vocabulary=gpt2-nano"], "vocabulary: it has 8192 tokens, but model.backbone.vocab_size is 300"),
        (["model.weights=other.safetensors"], "vocabulary: it has 8192 tokens, but model.backbone.vocab_size is 300"),
        (["model.weights=other", "model.tokenizer=none.tiktoken"], "model.tokenizer: expected gpt2, gpt2-nano or the"),
        (["seed=-1"], "seed: expected"),
        (["compile=all"], "compile: expected"),
        (["masked.batches=2"], "masked.batches: expected"),
        (["data.path=[a.txt,b.txt]"], "data.path: expected text"),
        (["batch_tokens=100"], "batch_tokens: expected a multiple of the context, 64"),
        (["model.backbone.vocab_size=9000"], "vocab_size is 9000"),
        (["batch_tokens=64000", "tokens=64000"], "data: tokens of the text"),
        (["ckpt_path=nowhere.ckpt"], "is not a whole checkpoint of a pretraining"),
    ],
)
def test_what_cannot_work_is_told(
    pretrain: Callable[..., Path], capsys: pytest.CaptureFixture, overrides: list[str], expected: str
) -> None:
    with pytest.raises(SystemExit):
        pretrain(*overrides)
    assert expected in capsys.readouterr().err


def test_loss_is_the_cross_entropy_of_all_logits() -> None:
    model = GPT(SIZES).initialise()
    ids, targets = torch.randint(0, 300, (2, 9, 40)).unbind()  # more positions than are held at a time
    loss = next_token_loss(model, Windows(ids, targets))
    (loss / 2).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    logits = model.next_token_logits(model.hidden(ids))
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    (expected / 2).backward()
    torch.testing.assert_close(loss, expected)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-4, rtol=1e-4, msg=name)


def test_hidden_tokens_are_read_where_the_next_one_is_and_nothing_of_them_is_seen() -> None:
    model = GPT(SIZES).initialise()
    ids = torch.randint(0, 300, (3, 40))
    batch = Windows(ids, ids).hidden(0.2, np.random.default_rng(0))
    hide = batch.hide
    assert hide is not None
    assert not hide[:, 0].any()
    assert hide.any(dim=1).all()
    free = GPT(dataclasses.replace(SIZES, causal=False))
    free.load_state_dict(model.state_dict())
    with torch.no_grad():
        free.wte.weight[299] = 0
        logits = free.hidden(ids.masked_fill(hide, 299)) @ model.wte.weight.t()
        expected = F.cross_entropy(logits[:, :-1][hide[:, 1:]], ids[:, 1:][hide[:, 1:]], reduction="sum")
        torch.testing.assert_close(masked_token_loss(model, batch), expected)


def test_weight_decay_is_on_matrices_only() -> None:
    model = GPT(SIZES).initialise()
    for optimizer in (
        adamw(model, 1e-3, 0.1, (0.9, 0.95)),
        muon(model, 1e-3, 0.1, (0.9, 0.95), muon_lr=1e-3, momentum=0.95),
    ):
        decayed = {id(p) for group in optimizer.param_groups for p in group["params"] if group["weight_decay"]}
        assert decayed == {id(p) for p in model.parameters() if p.dim() == 2}
        all_parameters = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert sorted(all_parameters) == sorted(id(p) for p in model.parameters())
