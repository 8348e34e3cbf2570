"""Runs on an encoder: trained, saved, opened and asked as those on a GPT."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Run
from tiny_encoders import write_bert

from gpt_classifier.assets import ASSETS
from gpt_classifier.commands import main as command
from gpt_classifier.errors import UserError
from gpt_classifier.inference import inside
from gpt_classifier.inference.predictor import Predictor
from gpt_classifier.inference.text_classifier import TextClassifier

SAMPLE = pd.read_csv(ASSETS / "sample_sms.tsv", sep="\t", names=["label", "text"], quoting=3).dropna()
TEXT = "You have WON 1000 prizes, call NOW"
SMALL = [
    *("model=encoder", "data=sample_sms", "trainer=cpu", "trainer.max_epochs=2", "trainer.precision=32-true"),
    *("data.train_size=64", "optimizer.lr=1e-3", "evaluate=all"),
]


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A folder of random weights with a vocabulary."""
    return write_bert(tmp_path / "bert", SAMPLE["text"].tolist())


@pytest.fixture
def run(train: Callable[..., Run], bert: Path) -> Callable[..., Run]:
    """Trains on that folder."""
    return lambda *overrides, folder="run": train(f"model.weights={bert}", *overrides, folder=folder, base=SMALL)


@pytest.mark.parametrize(
    ("overrides", "apart"),
    [
        ([], 3e-4),  # the probe ends before it has converged, which takes rounding further
        (["head_init=random"], 1e-6),
        (["head_init=random", "freeze=lora", "freeze.rank=4"], 1e-6),
        (["head_init=random", "freeze=head_only", "pooling=mean"], 1e-6),
    ],
    ids=str,
)
def test_run_can_be_predicted_with_and_is_the_same_without_the_cache(
    run: Callable[..., Run], overrides: list[str], apart: float, capsys: pytest.CaptureFixture
) -> None:
    cached = run(*overrides)
    checkpoint = cached.folder / "checkpoints" / "best.ckpt"
    plain = run("cache.enabled=false", *overrides, folder="plain")
    for stage in ("last", "best"):
        assert cached.metrics[stage]["test"]["loss"] == pytest.approx(plain.metrics[stage]["test"]["loss"], abs=apart)
    assert cached.metrics["parameters"]["trained"] > 0
    command(["predict", "--checkpoint", str(checkpoint), "--text", TEXT])
    assert TEXT in capsys.readouterr().out
    predictor = Predictor.open(checkpoint, precision="32-true")
    alone = predictor.predict_proba([TEXT])
    np.testing.assert_allclose(predictor.predict_proba([TEXT, TEXT * 3])[:1], alone, atol=1e-5)


def test_look_inside_shows_attention_over_the_text_itself(run: Callable[..., Run]) -> None:
    predictor = Predictor.open(run().folder / "checkpoints" / "best.ckpt", precision="32-true")
    with pytest.raises(UserError, match="it sees the whole text at once"):
        inside.trace(predictor, TEXT)
    tokens, weights = inside.attention(predictor, TEXT)
    assert "".join(tokens) == TEXT
    assert tokens[0] == tokens[-1] == ""
    assert weights.shape == (3, 4, len(tokens), len(tokens))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))


def test_look_inside_of_windows_with_special_tokens(run: Callable[..., Run]) -> None:
    options = ["pooling=windows", "pooling.size=6", "pooling.overlap=2"]
    predictor = Predictor.open(run(*options).folder / "checkpoints" / "best.ckpt", precision="32-true")
    assert len(predictor.token_rows([TEXT])[0]) > 12
    tokens, weights = inside.attention(predictor, TEXT)
    assert (tokens[0], "".join(tokens), tokens[-1]) == ("", "You have WON 10", "")  # the first window
    assert weights.shape == (3, 4, 6, 6)


def test_special_tokens_of_windows_are_no_part_of_what_a_gpt_says_after_each_token(
    train: Callable[..., Run], bert: Path
) -> None:
    (bert / "tokenizer_config.json").write_text('{"pad_token": "[PAD]"}')
    sizes = ["model.backbone.vocab_size=500", "model.backbone.n_layer=1", "model.backbone.n_embd=24"]
    gpt = ["model=gpt2-nano", "model.weights=random", f"model.tokenizer={bert}", *sizes, "optimizer.lr=1e-3"]
    checkpoint = train(*gpt, "pooling=windows", "pooling.size=6", "pooling.overlap=2").folder / "checkpoints/best.ckpt"
    predictor = Predictor.open(checkpoint, precision="32-true")
    assert "".join(inside.trace(predictor, "call NOW").tokens) == "call NOW"
    with pytest.raises(UserError, match="in windows, and its tokenizer adds special tokens to each"):
        inside.trace(predictor, TEXT)
    command(["evaluate", "--checkpoint", str(checkpoint), "--text", TEXT, "--out", str(checkpoint.parents[1] / "page")])
    page = (checkpoint.parents[1] / "page" / "report.html").read_text()
    assert "what each token (down) looks at (across); the first 6 tokens" in page


def test_artifact_needs_the_weights_and_nothing_else_of_the_folder(run: Callable[..., Run], bert: Path) -> None:
    checkpoint = run().folder / "checkpoints" / "best.ckpt"
    expected = Predictor.open(checkpoint).predict_proba([TEXT])
    for name in ("tokenizer.json", "config.json"):
        (bert / name).unlink()
    np.testing.assert_array_equal(Predictor.open(checkpoint).predict_proba([TEXT]), expected)
    bundle = checkpoint.parents[1] / "bundle"
    TextClassifier.load(checkpoint).save(bundle)
    shutil.rmtree(bert)
    np.testing.assert_allclose(TextClassifier.load(bundle).predict_proba([TEXT]), expected, atol=1e-6)
    with pytest.raises(UserError, match="holds only what was trained"):
        Predictor.open(checkpoint)


def test_checkpoint_of_the_hub_is_taken_from_its_cache_without_a_network(
    run: Callable[..., Run], bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run().metrics["best"]["test"]
    repository = tmp_path / "hub" / "models--some--bert"
    shutil.copytree(bert, repository / "snapshots" / ("1" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("1" * 40)
    shutil.rmtree(bert)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    fetched = run("model.weights=pretrained", "model.hub=some/bert", folder="fetched")
    assert fetched.metrics["best"]["test"] == expected
    assert fetched.checkpoint()["classifier"]["base"]["hub"] == "some/bert"
    Predictor.open(fetched.folder / "checkpoints" / "best.ckpt").predict([TEXT])


def test_text_classifier_fits_saves_and_loads(bert: Path, tmp_path: Path) -> None:
    texts, labels = SAMPLE["text"].tolist()[:60], SAMPLE["label"].tolist()[:60]
    classifier = TextClassifier(model="encoder", weights=str(bert), epochs=1, device="cpu", progress=False)
    found = classifier.fit(texts, labels).predict_proba(texts[:5])
    classifier.save(tmp_path / "saved")
    np.testing.assert_allclose(TextClassifier.load(tmp_path / "saved").predict_proba(texts[:5]), found, atol=1e-5)


def test_resumed_run_ends_as_an_unbroken_one(run: Callable[..., Run]) -> None:
    whole = run("scheduler=none")
    half = run("scheduler=none", "trainer.max_epochs=1", folder="half")
    resumed = run("scheduler=none", f"ckpt_path={half.folder / 'checkpoints' / 'last.ckpt'}", folder="resumed")
    assert resumed.metrics["last"]["test"]["loss"] == pytest.approx(whole.metrics["last"]["test"]["loss"], abs=1e-5)


def test_other_dropout_of_trained_blocks_takes_the_same_activations(
    run: Callable[..., Run], capsys: pytest.CaptureFixture
) -> None:
    first = run("model.dropout=0.1")
    assert " 0 from " in capsys.readouterr().out
    second = run("model.dropout=0.5", folder="second")
    assert " 0 computed" in capsys.readouterr().out
    assert second.metrics["last"]["train"]["loss"] != first.metrics["last"]["train"]["loss"]


def test_recipe_says_which_rate(run: Callable[..., Run], capsys: pytest.CaptureFixture) -> None:
    run("optimizer.lr=auto", "trainer.max_epochs=1")
    assert "optimizer.lr=0.0001" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["freeze=last_n_blocks", "freeze.n=4"], "freeze.n: expected 1 to 3, the number of blocks of this model"),
        (["model.tokenizer=some/encoder"], "Connect to the network once"),
        (["model.dropout=2"], "model.dropout: expected a number from 0 to 1"),
        (["data.max_length=2"], "data.max_length: expected more than the 2 special tokens of each text"),
        (["pooling=windows", "pooling.size=2"], "pooling.size: expected more than 2 tokens"),
        (["pooling=windows", "pooling.size=9", "pooling.overlap=7"], "window has 9 tokens (pooling.size), 2 of them"),
        (["model.weights=pretrained"], "model.hub: expected a repository on the Hugging Face Hub"),
        (["model.weights=pretrained", "model.hub=some/encoder"], "Connect to the network once"),
        (["model=bert-base"], r"model.backbone.settings: expected hidden_size=24"),
        (["model.tokenizer=gpt2-nano"], "model.tokenizer: expected a vocabulary for the model's 500 embeddings"),
    ],
    ids=str,
)
def test_what_can_not_be_trained_is_told_in_a_paragraph(
    run: Callable[..., Run], overrides: list[str], expected: str, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(*overrides)
    assert caught.value.code
    assert expected in capsys.readouterr().err
    assert not list((tmp_path / "run").rglob("*.ckpt"))


def test_checkpoint_of_another_family_and_tokenizer_without_padding_are_told(
    run: Callable[..., Run], bert: Path, capsys: pytest.CaptureFixture
) -> None:
    told = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps(told | {"pad_token_id": None}))
    with pytest.raises(SystemExit):
        run()
    assert "model.tokenizer: expected one with a token for padding" in capsys.readouterr().err
    (bert / "config.json").write_text(json.dumps(told | {"is_decoder": True}))
    with pytest.raises(SystemExit):
        run()
    assert "model.backbone.settings: expected those of an encoder with is_decoder=false" in capsys.readouterr().err
    (bert / "config.json").write_text(json.dumps(told | {"model_type": "llama"}))
    with pytest.raises(SystemExit):
        run()
    assert "whose model_type is llama" in capsys.readouterr().err
