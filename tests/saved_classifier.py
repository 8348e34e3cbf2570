"""A small classifier with random weights, as a folder that `TextClassifier.load` opens."""

from pathlib import Path

import torch

from gpt_classifier.artifact import pooling_state, save_bundle
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.pooling import POOLINGS
from gpt_classifier.spec import Spec
from gpt_classifier.tasks import SingleLabel
from gpt_classifier.tokenizers import load_tokenizer

CLASSES = ["no", "<b>maybe</b>", "yes"]


def saved(folder: Path, causal: bool = True, max_length: int = 64) -> Path:
    """A small classifier with random weights."""
    config = GPTConfig(vocab_size=8192, n_positions=64, n_embd=16, n_layer=2, n_head=2, causal=causal)
    model = Classifier(GPT(config).initialise(), POOLINGS["max"](), len(CLASSES))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    spec = Spec(
        backbone=model.backbone.state(),
        pooling=pooling_state(model.pooling),
        tokenizer=load_tokenizer("gpt2-nano").state(),
        task=SingleLabel(CLASSES).state(),
        max_length=max_length,
        pad_to="batch",
        truncate="head_tail",
    )
    save_bundle(folder / "saved", spec, model)
    return folder / "saved"
