"""Weights of encoders as transformers writes them, or refused by name."""

import logging
import re
from pathlib import Path

import torch
from torch import Tensor

from gpt_classifier.device import expect_memory
from gpt_classifier.encoders.backbones import Encoder, build
from gpt_classifier.encoders.config import EncoderConfig, config_file, read_config, relevant
from gpt_classifier.errors import OptionError, UserError
from gpt_classifier.models.weights import StateDict, expect_names, read_tensors

log = logging.getLogger(__name__)

BASES = ("distilbert.", "bert.", "roberta.", "deberta.", "model.")
"""What stands before the names of a model's weights where it has a head."""

HEADS = (
    *("cls", "lm_head", "head", "decoder", "classifier", "pre_classifier", "pooler", "qa_outputs"),
    *("vocab_transform", "vocab_layer_norm", "vocab_projector", "lm_predictions", "mask_predictions"),
)
"""First parts of the names of what stands behind the last hidden states: none of it is needed here."""

OLD_NAMES = [(r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias")]


def load_encoder(config: EncoderConfig, path: Path | None) -> Encoder:
    """An encoder with weights in float32, as far as possible mapped from the file and not yet read.

    Heads are left out: those for classes read more than one linear layer of a hidden state, and can't be taken over.

    Args:
        config: with settings that the weights must have.
        path: a folder or file of weights as transformers writes them; a `config.json` beside them is checked. `None`
            for random ones.

    Raises:
        UserError: a damaged file, weights of another model, or more than fit in memory.
    """
    with torch.device("meta"):
        model = build(config)
    expect_memory(sum(4 * p.numel() for p in model.parameters()), "the weights of this model")
    if path is None:
        return build(config)
    _check_config(config, path)
    state = _renamed(read_tensors(path))
    _check(model, state, path)
    model.load_state_dict({f"model.{name}": tensor for name, tensor in state.items()}, assign=True)
    return model


def _check_config(config: EncoderConfig, path: Path) -> None:
    """Refuse weights whose `config.json` asks for another computation; dropout is for whoever trains to choose."""
    file = config_file(path)
    if not file.is_file():
        return
    architecture, settings = read_config(file, "weights", path)
    if architecture != config.architecture:
        raise OptionError(
            "weights",
            f"those of a {config.architecture}",
            f"{path}, whose model_type is {architecture}",
            "Choose a model of that architecture, or model=encoder, which takes all of it from the config.json.",
        )
    try:
        theirs = relevant(EncoderConfig(architecture, settings, dropout=0.0))
    except OptionError as error:
        error.field = "weights"  # whose settings they are
        raise
    ours = relevant(EncoderConfig(config.architecture, config.settings, dropout=0.0))
    other = [name for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)]
    if other:
        raise OptionError(
            "backbone.settings",
            f"{', '.join(f'{name}={theirs.get(name)}' for name in other)} as in {file}",
            ", ".join(f"{name}={ours.get(name)}" for name in other),
            "model=encoder takes all settings from the config.json.",
        )


def _renamed(tensors: StateDict) -> StateDict:
    """The tensors of the model itself under the names of now; a line tells which heads were left out."""
    prefix = next((base for base in BASES if any(name.startswith(base) for name in tensors)), "")
    state: dict[str, Tensor] = {}
    heads = set()
    for name, tensor in tensors.items():
        for pattern, replacement in OLD_NAMES:
            name = re.sub(pattern, replacement, name)
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
        if name.split(".")[0] in HEADS:
            heads.add(name.split(".")[0])
        else:
            state[name] = tensor
    if heads:
        log.info("weights  without %s, which nothing here reads", ", ".join(sorted(heads)))
    return state


def _check(model: Encoder, state: StateDict, path: Path) -> None:
    expected = {name.removeprefix("model."): tensor for name, tensor in model.state_dict().items()}
    if "embeddings.position_embeddings.weight" not in expected:  # DeBERTa-v3 was pretrained with some, for its head
        state.pop("embeddings.position_embeddings.weight", None)
    expect_names(expected, state, path, "the names that transformers gives them")
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            raise UserError(
                f"{path}: {name} has shape {tuple(state[name].shape)} where {tuple(tensor.shape)} was expected. The "
                f"weights are of other sizes; model=encoder takes the sizes from the config.json beside weights."
            )
