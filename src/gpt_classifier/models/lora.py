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

from gpt_classifier.errors import OptionError, expect_bool, expect_number, expect_one_of
from gpt_classifier.models.backbone import AdaptableLinear
from gpt_classifier.models.classifier import Classifier

Scaling = Literal["alpha_over_rank", "alpha"]
Init = Literal["in_features", "rank"]

HEAD = "head"  # the one linear layer that is not a backbone's


@dataclass
class LoRA:
    """What adapters are like.

    Args:
        rank: of each adapter.
        alpha: adapters are multiplied by it.
        scaling: `alpha_over_rank` divides alpha by the rank, as the paper does; `alpha` does not.
        init: the entries of A are uniform within 1/sqrt of the layer's inputs (`in_features`), or of the rank.
        dropout: probability of dropping an input of the adapters.
        layers: names of the backbone's linear layers, see `Backbone.linears`, and `head`.

    Raises:
        OptionError: a value out of its range.
    """

    rank: int
    alpha: float
    scaling: Scaling
    init: Init
    dropout: float
    layers: Sequence[str]

    def __post_init__(self) -> None:
        expect_number("rank", self.rank, 1, whole=True)
        expect_number("alpha", self.alpha, 0)
        expect_number("dropout", self.dropout, 0, 1)
        expect_one_of("scaling", self.scaling, get_args(Scaling))
        expect_one_of("init", self.init, get_args(Init))
        if not isinstance(self.layers, Sequence) or isinstance(self.layers, str) or not self.layers:
            raise OptionError("layers", "a list of layers", self.layers, "Set it as in '{field}=[query,value]'.")
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


def add_adapters(model: Classifier, lora: LoRA) -> None:
    """Put adapters beside linear layers of all blocks, and of the head; the model computes what it did.

    Args:
        model: a classifier without adapters.
        lora: what they are like.

    Raises:
        OptionError: the model has no such layer, or the rank is larger than its width.
    """
    layers = [*model.backbone.linears(), AdaptableLinear(model, "head", (HEAD,))]
    known = list(dict.fromkeys(part for layer in layers for part in layer.parts))
    if not set(lora.layers) <= set(known):
        raise OptionError("layers", f"some of {', '.join(known)}", lora.layers, "Set it as in '{field}=[query,value]'.")
    width = model.backbone.width
    expect_number(
        "rank", lora.rank, 1, width, whole=True, hint=f"More than the width of the model, {width}, adds nothing."
    )
    for layer in layers:
        adapted = [i for i, part in enumerate(layer.parts) if part in lora.layers]
        if adapted:
            setattr(layer.owner, layer.name, LoRALinear(layer.linear, len(layer.parts), adapted, lora))
    model.lora = asdict(lora)


def train_lora(model: Classifier, train_head: bool, **options: Any) -> None:
    """Train adapters, and the head's own weights if told so; everything else is frozen.

    Args:
        model: a classifier without adapters.
        train_head: whether the head's own weight and bias are trained.
        options: those of `LoRA`.

    Raises:
        OptionError: a value out of its range.
    """
    expect_bool("train_head", train_head)
    add_adapters(model, LoRA(**options))
    model.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, LoRALinear):
            module.lora_a.requires_grad_(True)
            module.lora_b.requires_grad_(True)
    model.pooling.requires_grad_(True)
    for name in ("weight", "bias"):
        getattr(model.head, name).requires_grad_(train_head)


def merge(model: Classifier) -> None:
    """Fold all adapters into their layers: a plain model with the same logits."""
    for owner in list(model.modules()):
        for name, child in list(owner.named_children()):
            if isinstance(child, LoRALinear):
                setattr(owner, name, child.merged())
    model.lora = None
