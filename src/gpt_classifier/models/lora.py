"""LoRA (Hu et al., 2021, "LoRA: Low-Rank Adaptation of Large Language Models"): small adapters beside frozen layers.

peft would put one adapter beside GPT-2's fused query-key-value layer, with one first factor for all three; here each of
them has its own, or none.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt_classifier.errors import UserError, expect_number
from gpt_classifier.models.classifier import GPTClassifier

Scaling = Literal["alpha_over_rank", "alpha"]
Init = Literal["in_features", "rank"]

LAYERS = ("query", "key", "value", "attention_output", "mlp_input", "mlp_output", "head")
"""Everything linear, as configs name it."""

FUSED = ("query", "key", "value")  # the parts of c_attn, in its order


@dataclass
class LoRA:
    """What adapters are like.

    Args:
        rank: of each adapter.
        alpha: adapters are multiplied by it.
        scaling: `alpha_over_rank` divides alpha by the rank, as the paper does; `alpha` does not.
        init: the entries of A are uniform within 1/sqrt of the layer's inputs (`in_features`), or of the rank.
        dropout: probability of dropping an input of the adapters.
        layers: some of `LAYERS`.

    Raises:
        UserError: a value out of its range.
    """

    rank: int
    alpha: float
    scaling: Scaling
    init: Init
    dropout: float
    layers: Sequence[str]

    def __post_init__(self) -> None:
        expect_number("freeze.rank", self.rank, 1, whole=True)
        expect_number("freeze.alpha", self.alpha, 0)
        expect_number("freeze.dropout", self.dropout, 0, 1)
        for option, value, known in (("scaling", self.scaling, Scaling), ("init", self.init, Init)):
            if value not in get_args(known):
                raise UserError(f"freeze.{option}: expected {' or '.join(get_args(known))}, but it is {value}.")
        known_layers = isinstance(self.layers, Sequence) and not isinstance(self.layers, str)
        if not known_layers or not self.layers or not set(self.layers) <= set(LAYERS):
            raise UserError(
                f"freeze.layers: expected some of {', '.join(LAYERS)}, but it is {self.layers}. "
                f"Set it as in 'freeze.layers=[query,value]'."
            )
        self.layers = list(self.layers)  # plain, as checkpoints keep it

    @property
    def scale(self) -> float:
        """What adapters are multiplied by."""
        return self.alpha / self.rank if self.scaling == "alpha_over_rank" else self.alpha


class LoRALinear(nn.Linear):
    """A linear layer with adapters: `W x + b + scale · B A x`, in which B starts at 0.

    Its weight and bias keep their names, so that weights of the plain layer fit.

    Args:
        linear: the layer, whose weight and bias it takes over.
        parts: equal parts that its outputs fall into, such as 3 for query, key and value.
        adapted: the parts with an adapter, by number.
        lora: what its adapters are like.
    """

    def __init__(self, linear: nn.Linear, parts: int, adapted: Sequence[int], lora: LoRA) -> None:
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.parts = parts
        self.adapted = tuple(adapted)
        self.scale = lora.scale
        self.lora_dropout = nn.Dropout(lora.dropout)
        device = linear.weight.device
        bound = (lora.rank if lora.init == "rank" else self.in_features) ** -0.5
        a = torch.empty(len(adapted), lora.rank, self.in_features, device=device).uniform_(-bound, bound)
        self.lora_a = nn.Parameter(a)
        self.lora_b = nn.Parameter(torch.zeros(len(adapted), self.out_features // parts, lora.rank, device=device))

    def forward(self, x: Tensor) -> Tensor:
        low = F.linear(self.lora_dropout(x), self.lora_a.flatten(0, 1))  # (…, adapted · r)
        outputs = list(super().forward(x).chunk(self.parts, dim=-1))
        for part, narrow, b in zip(self.adapted, low.chunk(len(self.adapted), dim=-1), self.lora_b, strict=True):
            outputs[part] = outputs[part] + self.scale * F.linear(narrow, b)
        return torch.cat(outputs, dim=-1) if self.parts > 1 else outputs[0]

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """A plain layer that computes the same, but for dropout."""
        plain = nn.Linear(self.in_features, self.out_features, device="meta")
        weight = self.weight.detach().clone()
        for part, delta in zip(self.adapted, self.lora_b @ self.lora_a, strict=True):
            weight.chunk(self.parts)[part].add_(self.scale * delta)
        plain.weight, plain.bias = nn.Parameter(weight), self.bias
        return plain


def add_adapters(model: GPTClassifier, lora: LoRA) -> None:
    """Put adapters beside linear layers of all blocks, and of the head; the model computes what it did.

    Args:
        model: a classifier without adapters.
        lora: what they are like.
    """

    def adapt(owner: nn.Module, name: str, parts: Sequence[str]) -> None:
        adapted = [i for i, part in enumerate(parts) if part in lora.layers]
        if adapted:
            linear = getattr(owner, name)
            setattr(owner, name, LoRALinear(linear, len(parts), adapted, lora))

    block: Any
    for block in model.backbone.h:
        adapt(block.attn, "c_attn", FUSED)
        adapt(block.attn, "c_proj", ["attention_output"])
        adapt(block.mlp, "c_fc", ["mlp_input"])
        adapt(block.mlp, "c_proj", ["mlp_output"])
    adapt(model, "head", ["head"])
    model.lora = asdict(lora)


def train_lora(model: GPTClassifier, train_head: bool, **options: Any) -> None:
    """Train adapters, and the head's own weights if told so; everything else is frozen.

    Args:
        model: a classifier without adapters.
        train_head: whether the head's own weight and bias are trained.
        options: those of `LoRA`.

    Raises:
        UserError: a value out of its range.
    """
    if not isinstance(train_head, bool):
        raise UserError(f"freeze.train_head: expected true or false, but it is {train_head}.")
    add_adapters(model, LoRA(**options))
    model.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, LoRALinear):
            module.lora_a.requires_grad_(True)
            module.lora_b.requires_grad_(True)
    for name in ("weight", "bias"):
        getattr(model.head, name).requires_grad_(train_head)


def merge(model: GPTClassifier) -> None:
    """Fold all adapters into their layers: a plain model with the same logits."""
    for owner in list(model.modules()):
        for name, child in list(owner.named_children()):
            if isinstance(child, LoRALinear):
                setattr(owner, name, child.merged())
    model.lora = None
