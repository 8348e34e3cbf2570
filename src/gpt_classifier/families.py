"""The architectures that a classifier can be built on: a new one joins `FAMILIES`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpt_classifier.encoders.config import EncoderConfig, from_checkpoint, library
from gpt_classifier.models.backbone import Backbone
from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.gpt import GPT, GPTConfig
from gpt_classifier.models.pooling import Pooling
from gpt_classifier.models.weights import expect_head, load_backbone


def _as_it_is(config: Any, weights: str, hub: str | None, revision: str | None) -> Any:
    return config


@dataclass(frozen=True)
class Family:
    """One architecture, or several that are read in the same way.

    Args:
        config: a dataclass of its sizes; its fields and the family's name are `Backbone.state`.
        build: a backbone from sizes, its weights not drawn yet.
        load: a backbone from sizes and a file of weights, or with fresh ones for `None`, in float32; and `weight` and
            `bias` of a classification head if the file has one, else an empty dict.
        complete: sizes with what a checkpoint says of them, given as `weights`, `hub` and `revision` of
            `gpt_classifier.models.weights.locate_weights`.
    """

    config: type
    build: Callable[[Any], Backbone]
    load: Callable[[Any, Path | None], tuple[Backbone, dict[str, Tensor]]]
    complete: Callable[[Any, str, str | None, str | None], Any] = _as_it_is


def _build_encoder(config: EncoderConfig) -> Backbone:
    library()  # says how to install it
    from gpt_classifier.encoders.backbones import build  # with transformers, which takes seconds

    return build(config)


def _load_encoder(config: EncoderConfig, path: Path | None) -> tuple[Backbone, dict[str, Tensor]]:
    library()
    from gpt_classifier.encoders.weights import load_encoder

    return load_encoder(config, path), {}


FAMILIES = {
    "gpt2": Family(GPTConfig, GPT, load_backbone),
    "encoder": Family(EncoderConfig, _build_encoder, _load_encoder, from_checkpoint),
}
"""Every family under the name that `Backbone.state` gives it."""


def config_from_state(state: dict[str, Any]) -> Any:
    """The sizes that `Backbone.state` described.

    Raises:
        ValueError: the family is unknown. TypeError: these are not its sizes.
    """
    sizes = dict(state)
    family = sizes.pop("family", None)
    if family not in FAMILIES:
        raise ValueError(f"its backbone is of an unknown family, {family!r}")
    return FAMILIES[family].config(**sizes)


def _family(config: Any) -> Family:
    for family in FAMILIES.values():
        if isinstance(config, family.config):
            return family
    raise TypeError(f"no family in FAMILIES has sizes of type {type(config).__name__}")


def complete_config(config: Any, weights: str, hub: str | None, revision: str | None) -> Any:
    """Sizes with what the checkpoint says of them, where the family leaves that to it.

    Args:
        config: sizes of the backbone, of one of `FAMILIES`.
        weights: `random`, `pretrained` or a path.
        hub: repository that `pretrained` means.
        revision: of the repository.

    Raises:
        UserError: the checkpoint can't be had, or is of no architecture that is known here.
    """
    return _family(config).complete(config, weights, hub, revision)


def empty_backbone(config: Any) -> Backbone:
    """A backbone whose weights have shapes but no values, on the meta device."""
    with torch.device("meta"):
        return _family(config).build(config)


def load_classifier(
    config: Any, path: Path | None, pooling: Pooling, num_outputs: int, require_head: bool = False
) -> Classifier:
    """A classifier on a pretrained (or random) backbone.

    A file of an already fine-tuned classifier, such as the book's `review_classifier.pth`, brings its head along;
    otherwise the head is fresh.

    Args:
        config: sizes of the backbone, of one of `FAMILIES`.
        path: of the weights; `None` for random ones.
        pooling: where the head reads.
        num_outputs: C.
        require_head: refuse a file without a head.

    Raises:
        UserError: the file is damaged or of another model; its head is for another number of classes; or it has none
            where one is required.
    """
    backbone, head = _family(config).load(config, path)
    model = Classifier(backbone, pooling, num_outputs)
    expect_head(head, model.head, path, require_head)
    model.head_is_fresh = not head
    if head:
        model.head.load_state_dict({"bias": torch.zeros(num_outputs), **head})
    return model
