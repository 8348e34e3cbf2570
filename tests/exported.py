"""Classifiers of random weights, opened as a user opens them."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from gpt_classifier.artifact import Spec, pooling_state, save_bundle
from gpt_classifier.inference.text_classifier import TextClassifier
from gpt_classifier.models.backbone import Backbone
from gpt_classifier.models.bag_of_tokens import BagOfTokens
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.lora import LoRA, add_adapters
from gpt_classifier.models.pooling import Pooling, find_pooling
from gpt_classifier.tasks import SingleLabel
from gpt_classifier.tokenizers import load_tokenizer
from gpt_classifier.tokenizers.interface import Tokenizer

CLASSES = ("spam", "ham", "news")  # not sorted: the columns of the head are not those of predict_proba
TEXTS = [
    "WINNER!! Call now to claim your prize",
    "ok",
    "See you at the station at five, it's <|endoftext|> raining [SEP] </s> 😀 naïve",
    "many words " * 40,
]


def opened(
    folder: Path, backbone: Backbone, tokenizer: Tokenizer, pooling: Pooling, words: bool = False, **spec: Any
) -> TextClassifier:
    """A classifier of three classes, with temperature 1.5 unless `spec` says another.

    Args:
        folder: to keep it in.
        backbone: with weights.
        tokenizer: of the backbone.
        pooling: where the head reads.
        words: beside a bag of tokens.
        spec: further options of `Spec`.
    """
    classes = spec.pop("classes", CLASSES)
    model = Classifier(backbone, pooling, len(classes)).eval()
    if words:
        model.words = BagOfTokens(backbone.vocab_size, len(classes))
    nn.init.normal_(model.head.weight, std=0.3)
    nn.init.normal_(model.head.bias)
    if spec.get("lora"):
        add_adapters(model, LoRA(**spec["lora"]))
        for name, parameter in model.named_parameters():
            if "lora_b" in name:
                nn.init.normal_(parameter, std=0.3)
    options = {"max_length": 24, "pad_to": "batch", "truncate": "head", "temperature": 1.5}
    saved = Spec(
        backbone=backbone.state(),
        pooling=pooling_state(pooling),
        tokenizer=tokenizer.state(),
        task=SingleLabel(list(classes)).state(),
        **{**options, **spec},
    )
    save_bundle(folder, saved, model)
    return TextClassifier.load(folder, device="cpu", precision="32-true")


def opened_gpt(folder: Path, pooling: str = "last_token", causal: bool = True, **options: Any) -> TextClassifier:
    """The same of a small GPT with the vocabulary of gpt2-nano."""
    backbone = GPT(GPTConfig(vocab_size=8192, n_positions=64, n_embd=24, n_layer=2, n_head=2, causal=causal))
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.3)
    torch.manual_seed(1)
    chosen = find_pooling(pooling)().within(64)
    return opened(folder, backbone, load_tokenizer("gpt2-nano"), chosen, **options)
