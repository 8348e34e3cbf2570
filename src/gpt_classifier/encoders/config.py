"""Which encoder: its architecture and the settings of its `config.json`.

Importing this imports no transformers.
"""

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from gpt_classifier.errors import OptionError, UserError, expect_number, first_line
from gpt_classifier.hub import fetch_file
from gpt_classifier.models.limits import expect_weights

PLAIN = {"is_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute"}


@dataclass(frozen=True)
class Architecture:
    """What is particular to the settings of one architecture.

    Args:
        config: the class of transformers that reads them.
        dropouts: the settings that are probabilities of dropping.
        further: settings that transformers reads although its class does not list them.
        only: settings that can't be another value: transformers would ignore them, or compute no encoder.
    """

    config: str
    dropouts: tuple[str, ...]
    further: tuple[str, ...] = ()
    only: Mapping[str, Any] = field(default_factory=dict)


OF_BERT = ("hidden_dropout_prob", "attention_probs_dropout_prob")

ARCHITECTURES = {
    "distilbert": Architecture("DistilBertConfig", ("dropout", "attention_dropout")),
    "bert": Architecture("BertConfig", OF_BERT, only=PLAIN),
    "roberta": Architecture("RobertaConfig", OF_BERT, only=PLAIN),
    "deberta-v2": Architecture(
        "DebertaV2Config",
        OF_BERT,
        further=(
            *("position_buckets", "norm_rel_ebd", "share_att_key", "embedding_size", "attention_head_size"),
            *("conv_kernel_size", "conv_groups", "conv_act"),
        ),
    ),
    "modernbert": Architecture("ModernBertConfig", ("attention_dropout", "embedding_dropout", "mlp_dropout")),
}
"""By `model_type`, as `config.json` names it; DeBERTa-v3 is `deberta-v2`, and DistilRoBERTa `roberta`."""

TOKENS = ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")

INDIFFERENT = {
    *TOKENS,
    *("initializer_range", "initializer_cutoff_factor", "sinusoidal_pos_embds", "use_cache", "tie_word_embeddings"),
    *("classifier_dropout", "classifier_bias", "classifier_activation", "classifier_pooling", "seq_classif_dropout"),
    *("qa_dropout", "pooler_dropout"),
    *("pooler_hidden_act", "pooler_hidden_size", "legacy", "decoder_bias", "sparse_prediction"),
    *("sparse_pred_ignore_index", "deterministic_flash_attn", "is_decoder", "add_cross_attention"),
}
"""Settings of heads, of fresh weights and of what is not computed here: no hidden state depends on them."""


@dataclass(frozen=True)
class EncoderConfig:
    """An encoder of transformers.

    Args:
        architecture: one of `ARCHITECTURES`; `None` for what the checkpoint's `config.json` says, see
            `from_checkpoint`.
        settings: under the names of `config.json`; what is left out is as transformers has it by default. `None` for
            those of the checkpoint.
        dropout: probability of dropping wherever the architecture drops, from 0 to 1; `None` for what the settings say.

    Raises:
        OptionError: the architecture is unknown, or the dropout no probability.
    """

    architecture: str | None = None
    settings: Mapping[str, Any] | None = None
    dropout: float | None = None

    def __post_init__(self) -> None:
        if self.architecture is not None and self.architecture not in ARCHITECTURES:
            raise OptionError("architecture", f"one of {', '.join(ARCHITECTURES)}", self.architecture)
        if (self.architecture is None) != (self.settings is None):
            raise OptionError("settings", f"those of the architecture {self.architecture}", self.settings or "null")
        if self.dropout is not None:
            expect_number("dropout", self.dropout, 0, 1)

    def state(self) -> dict[str, Any]:
        """All settings that hidden states depend on, defaults written out, and dropout among them."""
        return {"architecture": self.architecture, "settings": relevant(self)}


def library() -> ModuleType:
    """transformers, imported when an encoder is first built.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise UserError(
            f'Encoders such as BERT need the extra encoders: pip install -e ".[encoders]" ({first_line(error)})'
        ) from error


def complete(config: EncoderConfig) -> Any:
    """The configuration object of transformers.

    Raises:
        OptionError: of `settings`: transformers refuses them, or they ask for what is no encoder.
    """
    assert config.architecture is not None
    assert config.settings is not None
    architecture = ARCHITECTURES[config.architecture]
    # transformers warns of its own defaults for special tokens where they are beyond the vocabulary
    settings = {**dict.fromkeys(TOKENS), **config.settings}
    for name, only in architecture.only.items():
        if settings.get(name, only) != only:
            raise OptionError(
                "settings",
                f"those of an encoder with {name}={json.dumps(only)}",
                f"{name}={json.dumps(settings[name])}",
                "No option changes this; use another checkpoint.",
            )
    if config.dropout is not None:
        settings |= dict.fromkeys(architecture.dropouts, config.dropout)
    try:
        return getattr(library(), architecture.config)(**settings)
    except UserError:
        raise
    except Exception as error:  # its checks raise kinds of their own
        raise OptionError(
            "settings",
            f"those of a {config.architecture} as transformers takes them",
            dict(config.settings),
            f"({' '.join(str(error).split())[:300]})",
        ) from error


def relevant(config: EncoderConfig) -> dict[str, Any]:
    """The settings that hidden states depend on, completed by transformers, as plain values."""
    theirs = complete(config)
    assert config.architecture is not None
    known = type(theirs)().to_dict().keys() - library().PreTrainedConfig().to_dict().keys() - INDIFFERENT
    names = [*known, "pad_token_id", *ARCHITECTURES[config.architecture].further]
    chosen = {name: getattr(theirs, name) for name in names if hasattr(theirs, name)}
    return json.loads(json.dumps(chosen, sort_keys=True))


def from_checkpoint(config: EncoderConfig, weights: str, hub: str | None, revision: str | None) -> EncoderConfig:
    """The configuration with the settings of the checkpoint, where it has none of its own.

    Args:
        config: perhaps without settings.
        weights: `pretrained`, `random`, or a path of weights with a `config.json` in the folder or beside the file.
        hub: repository on the Hugging Face Hub, for weights that are no path.
        revision: commit, tag or branch of it; `None` for its main branch.

    Raises:
        UserError: there is no `config.json`, it can't be had or read, or is of another architecture.
    """
    if config.settings is not None:
        return config
    expect_weights(weights)
    field = "hub"
    if weights not in ("pretrained", "random"):
        field, path = "weights", config_file(Path(weights).expanduser())
        if not path.is_file():
            raise OptionError("weights", "a folder that transformers wrote, with a config.json", f"{weights}, without")
    elif hub is None:
        raise OptionError(
            "hub",
            "a repository on the Hugging Face Hub, whose config.json has the sizes",
            "null",
            "Set it, or set {group}weights to a folder that transformers wrote.",
        )
    else:
        path = fetch_file(hub, ("config.json",), revision)
    architecture, settings = read_config(path, field, hub if field == "hub" else weights)
    return EncoderConfig(architecture, settings, config.dropout)


def known_depth(model: Mapping[str, Any]) -> int | None:
    """Number of blocks, as far as a configuration or a checkpoint on disk says it, without transformers.

    Args:
        model: the group, with `weights` that are there and `backbone`.

    Raises:
        UserError: a path of weights without `config.json`, or of another architecture.
    """
    settings = model["backbone"].get("settings")
    if settings is None and model["weights"] not in ("pretrained", "random"):
        settings = from_checkpoint(EncoderConfig(), model["weights"], None, None).settings
    return None if settings is None else settings.get("num_hidden_layers", settings.get("n_layers"))


def config_file(weights: Path) -> Path:
    """Where the `config.json` of weights is, if there is one."""
    return (weights if weights.is_dir() else weights.parent) / "config.json"


def read_config(path: Path, field: str, name: object) -> tuple[str, dict[str, Any]]:
    """Architecture and settings in a `config.json`.

    Args:
        path: of the file.
        field: the option that named the checkpoint, for messages.
        name: what it was set to.

    Raises:
        UserError: it is no such file, or of an architecture that is not in `ARCHITECTURES`.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        architecture = told.pop("model_type")
    except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: expected a JSON object with a model_type, as transformers writes it beside weights, but it can't "
            f"be read as one. It may be truncated; fetch it again. ({type(error).__name__}: {first_line(error)})"
        ) from error
    if architecture not in ARCHITECTURES:
        gpt = " GPT-2s are model=gpt2-small and its kin." if architecture == "gpt2" else ""
        raise OptionError(
            field,
            f"a checkpoint whose model_type is one of {', '.join(ARCHITECTURES)}",
            f"{name}, whose model_type is {architecture}",
            f"Set {{field}} to another one.{gpt}",
        )
    return architecture, told
