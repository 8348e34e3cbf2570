"""What transformers opens by itself, and what it can't."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_encoders
import tokenizers
import torch
import transformers
from exported import TEXTS, opened, opened_gpt
from torch import nn

from gpt_classifier import TextClassifier
from gpt_classifier.encoders.backbones import Encoder, build
from gpt_classifier.errors import UserError
from gpt_classifier.export import heads
from gpt_classifier.export.hugging_face import export
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.pooling import find_pooling
from gpt_classifier.tokenizers.hugging_face import HuggingFaceTokenizer

LORA = {
    "rank": 4,
    "alpha": 8.0,
    "scaling": "alpha_over_rank",
    "init": "in_features",
    "dropout": 0.0,
    "layers": ["query", "mlp_input", "head"],
}


def asked(folder: Path, texts: list[str], labels: list[str], **options: Any) -> np.ndarray:
    """Probabilities that a user of transformers gets, `(N, C)`."""
    classify = transformers.pipeline("text-classification", model=str(folder), device="cpu")
    answers = classify(texts, top_k=None, truncation=True, **options)
    found = [{one["label"]: one["score"] for one in answer} for answer in answers]
    return np.array([[answer[label] for label in labels] for answer in found])


def expect_the_same(classifier: TextClassifier, folder: Path, texts: list[str] = TEXTS) -> None:
    expected = classifier.predict_proba(texts)
    assert expected.std(axis=0).max() > 1e-3, "the texts are to differ"
    labels = classifier.classes_.tolist()
    np.testing.assert_allclose(asked(folder, texts, labels), expected, atol=1e-5)
    np.testing.assert_allclose(asked(folder, texts, labels, batch_size=len(texts)), expected, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{}, {"truncate": "tail"}, {"truncate": "error", "max_length": 64}, {"lora": LORA}], ids=str
)
def test_gpt_gives_the_same_probabilities_alone_and_in_padded_batches(tmp_path: Path, options: dict) -> None:
    classifier = opened_gpt(tmp_path / "ours", **options)
    export(classifier, tmp_path / "theirs")
    expect_the_same(classifier, tmp_path / "theirs", TEXTS[:3] if options.get("truncate") == "error" else TEXTS)
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert config["id2label"] == {"0": "ham", "1": "news", "2": "spam"}
    assert config["pad_token_id"] == 8191


def test_gpt_with_twice_as_many_classes_as_dimensions_is_refused_and_one_with_as_many_is_not(tmp_path: Path) -> None:
    many = [f"class {i:02}" for i in range(48)]
    with pytest.raises(UserError, match="48 rows for classes, of 24 numbers"):
        export(opened_gpt(tmp_path / "many", classes=many), tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    classifier = opened_gpt(tmp_path / "ours", classes=many[:24])
    export(classifier, tmp_path / "theirs")
    np.testing.assert_allclose(
        asked(tmp_path / "theirs", TEXTS, classifier.classes_.tolist()), classifier.predict_proba(TEXTS), atol=1e-5
    )


def test_bias_of_two_opposite_rows_can_be_folded() -> None:
    row = torch.randn(1, 24, dtype=torch.float64)
    weight, bias = torch.cat([row, -row]), torch.tensor([0.7, 0.1], dtype=torch.float64)
    before = torch.randn(24)
    pooled = torch.randn(5, 24, dtype=torch.float64)
    shift = heads.shift_for(weight, bias, before).double() - before.double()
    theirs = ((pooled + shift) @ weight.T).softmax(dim=1)
    torch.testing.assert_close(theirs, (pooled @ weight.T + bias).softmax(dim=1), atol=1e-6, rtol=0)
    with pytest.raises(UserError, match="not independent enough"):
        heads.shift_for(torch.cat([row, row]), bias, before)


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (
            {"pooling": "max", "words": True, "truncate": "head_tail"},
            "pooling=last_token bag_of_tokens=false data.truncate=head",
        ),
        ({"pooling": "mean"}, "pooling=last_token"),
        ({"pooling": "first_token"}, "pooling=last_token"),
        ({"pooling": "padded_last_token"}, "pooling=last_token"),
        ({"pooling": "windows"}, "pooling=last_token"),
        ({"causal": False}, "model.causal=true"),
    ],
    ids=str,
)
def test_what_the_class_of_gpt2_can_not_express_is_refused_by_name(
    tmp_path: Path, options: dict, settings: str
) -> None:
    classifier = opened_gpt(tmp_path / "ours", **options)
    with pytest.raises(UserError, match=f"GPT2ForSequenceClassification .* Train with {settings} for it"):
        export(classifier, tmp_path / "theirs")
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


def encoder_tokenizer(pad_id: int) -> HuggingFaceTokenizer:
    """The letters, [CLS] before and [SEP] after; another token pads where the architecture wants it."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] if pad_id == 0 else ["[CLS]", "[PAD]", "[UNK]", "[SEP]"]
    tokenizer, trainer = tiny_encoders.word_piece(special, 50)
    tokenizer.train_from_iterator(["the quick brown fox jumps over the lazy dog " * 3], trainer)
    around = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing("[CLS] $0 [SEP]", special_tokens=around)
    return HuggingFaceTokenizer(tokenizer.to_str(), pad_id)


def opened_encoder(folder: Path, name: str, pooling: str = "first_token", **options: Any) -> TextClassifier:
    backbone = build(tiny_encoders.config_of(name))
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.4)
    for module in backbone.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.normal_(module.weight, mean=1.0, std=0.2)
    tokenizer = encoder_tokenizer(pad_id=1 if name == "roberta" else 0)
    chosen = find_pooling(pooling)().within(24)
    return opened(folder, backbone, tokenizer, chosen, **options)


ENCODED = ["the fox", "lazy dogs jump over [SEP] brown [PAD] boxes", "dog", "quick " * 40]


@pytest.mark.parametrize("name", tiny_encoders.ENCODERS)
def test_encoder_gives_the_same_probabilities_alone_and_in_padded_batches(tmp_path: Path, name: str) -> None:
    classifier = opened_encoder(tmp_path / "ours", name)
    export(classifier, tmp_path / "theirs")
    expect_the_same(classifier, tmp_path / "theirs", ENCODED)


@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_what_an_encoder_can_not_express_is_refused_by_name(tmp_path: Path, name: str) -> None:
    classifier = opened_encoder(tmp_path / "ours", name, "mean", truncate="head_tail")
    with pytest.raises(
        UserError, match=r"ForSequenceClassification .* Train with pooling=first_token data.truncate=head"
    ):
        export(classifier, tmp_path / "theirs")


def test_distilbert_needs_two_units_for_each_class(tmp_path: Path) -> None:
    many = [f"class {i:02}" for i in range(13)]
    with pytest.raises(UserError, match="takes two of its 24 units for each class, and there are 13 classes"):
        export(opened_encoder(tmp_path / "ours", "distilbert", classes=many), tmp_path / "theirs")


def test_head_that_computes_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = opened_encoder(tmp_path / "ours", "modernbert")
    made = heads.HEADS["modernbert"].made

    def off(encoder: Encoder, weight: torch.Tensor, bias: torch.Tensor) -> Any:
        tensors, settings = made(encoder, weight, bias)
        return tensors | {"classifier.bias": bias + torch.tensor([0.1, 0, 0])}, settings

    other = heads.Head(heads.HEADS["modernbert"].model, off)
    monkeypatch.setitem(heads.HEADS, "modernbert", other)
    with pytest.raises(UserError, match="its probabilities would be off by"):
        export(classifier, tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()


def test_gpt_whose_tokenizer_ends_texts_with_the_padding_is_refused(tmp_path: Path) -> None:
    backbone = GPT(GPTConfig(vocab_size=50, n_positions=64, n_embd=24, n_layer=1, n_head=2)).initialise()
    tokenizer = HuggingFaceTokenizer(encoder_tokenizer(0).state()["json"], pad_id=3)  # [SEP]
    classifier = opened(tmp_path / "ours", backbone, tokenizer, find_pooling("last_token")())
    with pytest.raises(UserError, match="ends a text with the token that pads"):
        export(classifier, tmp_path / "theirs")
    classifier = opened(tmp_path / "others", backbone, encoder_tokenizer(0), find_pooling("last_token")())
    export(classifier, tmp_path / "theirs")
    expect_the_same(classifier, tmp_path / "theirs", ENCODED)
