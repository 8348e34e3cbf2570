"""Our head, one linear layer on the pooled vector, in the parameters that the heads of transformers have.

Every function returns what computes the same probabilities as the linear layer, or refuses. `weight` is `(C, D)` and
`bias` `(C,)`, float64, with the temperature in them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpt_classifier.errors import UserError

Tensors = dict[str, Tensor]
TOLERANCE = 1e-5
"""Of logits, and of probabilities."""

ELSEWHERE = "--to bundle and --to onnx take the classifier as it is."


def shift_for(weight: Tensor, bias: Tensor, before: Tensor) -> Tensor:
    """What added to each pooled vector does what the bias of the head did, for a head without bias.

    Softmax takes no notice of a number that is added to all logits, so it is the pseudo-inverse of the centred weight,
    times the centred bias. It is exact wherever C - 1 of the centred rows are independent.

    Args:
        weight: of the head.
        bias: of the head.
        before: `(D,)` the bias that it is added to.

    Returns:
        `(D,)` float32, `before` included.

    Raises:
        UserError: there is none: the rows of the head are too alike, or more than D + 1.
    """
    centred, wanted = weight - weight.mean(dim=0), bias - bias.mean()
    shifted = (before.double() + torch.linalg.pinv(centred, rtol=1e-6) @ wanted).float()
    missing = (centred @ (shifted.double() - before.double()) - wanted).abs().max()
    rounding = (centred.abs() @ shifted.abs().double()).max() * 2**-24
    if not missing + rounding <= TOLERANCE:
        raise UserError(
            f"--to hf: GPT2ForSequenceClassification has no bias in its head, and the bias of this head can't be put "
            f"into the layer before: its {len(weight):,} rows for classes, of {weight.shape[1]:,} numbers, are not "
            f"independent enough. {ELSEWHERE}"
        )
    return shifted


@dataclass(frozen=True)
class Head:
    """The head of an architecture in transformers; all of them read the first token.

    Args:
        model: the class.
        made: its parameters, and what its configuration must say, from the encoder of transformers, weight and bias.
        note: what a user must know of it, or an empty string.
    """

    model: str
    made: Callable[[Any, Tensor, Tensor], tuple[Tensors, dict[str, Any]]]
    note: str = ""


def _of_tanh(dense: str, last: str) -> Callable[[Any, Tensor, Tensor], tuple[Tensors, dict[str, Any]]]:
    """A dense layer, tanh, and the last layer: at numbers so small, tanh is the identity in float32.

    The final LayerNorm bounds what comes in, `|x_i| <= |scale_i| sqrt(D) + |shift_i|`. A power of two brings that below
    2^-13, where `tanh(x) = x (1 - x²/3 + …)` is off by less than half a unit in the last place, and the last layer
    undoes it, which rounds nothing.
    """

    def made(encoder: Any, weight: Tensor, bias: Tensor) -> tuple[Tensors, dict[str, Any]]:
        norm = encoder.encoder.layer[-1].output.LayerNorm
        width = weight.shape[1]
        bound = (norm.weight.abs() * width**0.5 + norm.bias.abs()).max()
        scale = 2.0 ** -(13 + max(0, int(torch.log2(bound).ceil())))
        tensors = {f"{dense}.weight": scale * torch.eye(width), f"{dense}.bias": torch.zeros(width)}
        return tensors | {f"{last}.weight": weight / scale, f"{last}.bias": bias}, {}

    return made


def _distilbert(encoder: Any, weight: Tensor, bias: Tensor) -> tuple[Tensors, dict[str, Any]]:
    """A dense layer, ReLU, and the last layer: `x = relu(x) - relu(-x)` for each logit."""
    classes, width = weight.shape
    if 2 * classes > width:
        raise UserError(
            f"--to hf: DistilBertForSequenceClassification has a ReLU before its last layer, which takes two of its "
            f"{width:,} units for each class, and there are {classes:,} classes. {ELSEWHERE}"
        )
    unit, rest = torch.eye(classes), width - 2 * classes
    tensors = {
        "pre_classifier.weight": torch.cat([weight, -weight, weight.new_zeros(rest, width)]),
        "pre_classifier.bias": torch.cat([bias, -bias, bias.new_zeros(rest)]),
        "classifier.weight": torch.cat([unit, -unit, torch.zeros(classes, rest)], dim=1),
        "classifier.bias": torch.zeros(classes),
    }
    return tensors, {}


def _deberta(encoder: Any, weight: Tensor, bias: Tensor) -> tuple[Tensors, dict[str, Any]]:
    """A dense layer, an activation that the configuration chooses, and the last layer."""
    width = weight.shape[1]
    tensors = {"pooler.dense.weight": torch.eye(width), "pooler.dense.bias": torch.zeros(width)}
    settings = {"pooler_hidden_act": "linear", "pooler_hidden_size": width}
    return tensors | {"classifier.weight": weight, "classifier.bias": bias}, settings


def _modernbert(encoder: Any, weight: Tensor, bias: Tensor) -> tuple[Tensors, dict[str, Any]]:
    """A dense layer, an activation that the configuration chooses, LayerNorm, and the last layer.

    The dense layer undoes scale and shift of the final LayerNorm. What is left has mean 0 and variance v / (v + eps),
    which LayerNorm leaves as it is, but for the factor `1 / sqrt(1 + eps)`, and a part of eps / 2v.
    """
    norm, settings = encoder.final_norm, encoder.config
    scale = norm.weight.double()
    if scale.abs().min() < 1e-4 * scale.abs().max():
        raise UserError(
            f"--to hf: ModernBertForSequenceClassification normalises once more, and this model's last LayerNorm has "
            f"a scale of next to 0, which can't be undone. {ELSEWHERE}"
        )
    shift = None if norm.bias is None else norm.bias.double()
    tensors = {"head.dense.weight": torch.diag(1 / scale), "head.norm.weight": torch.ones(len(scale))}
    if shift is not None:
        tensors |= {"head.dense.bias": -shift / scale, "head.norm.bias": torch.zeros(len(scale))}
        bias = bias + weight @ shift
    tensors |= {"classifier.weight": weight * scale * (1 + settings.norm_eps) ** 0.5, "classifier.bias": bias}
    chosen = {"classifier_pooling": "cls", "classifier_activation": "linear", "classifier_bias": shift is not None}
    return tensors, chosen


SMALL = (
    "Compute in float32 or bfloat16: the first layer of its head makes numbers that are too small for float16, so that "
    "tanh, which this class has there, leaves them as they are."
)

HEADS = {
    "bert": Head("BertForSequenceClassification", _of_tanh("bert.pooler.dense", "classifier"), SMALL),
    "roberta": Head("RobertaForSequenceClassification", _of_tanh("classifier.dense", "classifier.out_proj"), SMALL),
    "distilbert": Head("DistilBertForSequenceClassification", _distilbert),
    "deberta-v2": Head("DebertaV2ForSequenceClassification", _deberta),
    "modernbert": Head("ModernBertForSequenceClassification", _modernbert),
}
"""By architecture, as `gpt_classifier.encoders.config.ARCHITECTURES` has them."""
