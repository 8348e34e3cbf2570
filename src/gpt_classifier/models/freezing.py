"""Which parameters fine-tuning changes.

Each `train_*` function takes a `Classifier`, switches `requires_grad` of every parameter, and changes nothing else. The
head, and what parameters the pooling has, are trained by all of them.
"""

import torch
from torch import nn

from gpt_classifier.models.classifier import Classifier
from gpt_classifier.models.limits import expect_blocks


def train_head_only(model: Classifier) -> None:
    """Train the linear head on a fixed backbone."""
    model.requires_grad_(False)
    model.pooling.requires_grad_(True)
    model.head.requires_grad_(True)


def train_last_blocks(model: Classifier, n: int) -> None:
    """Train the last `n` transformer blocks, the final norm and the head.

    Args:
        model: the classifier.
        n: from 1 to the number of blocks. All of them still leave the embeddings frozen.

    Raises:
        OptionError: `n` is outside that range.
    """
    depth = model.backbone.depth
    expect_blocks(n, depth)
    train_head_only(model)
    for i in range(depth + 1 - n, depth + 2):
        for parameter in model.backbone.stage(i):
            parameter.requires_grad_(True)


def train_everything(model: Classifier) -> None:
    """Full fine-tuning."""
    model.requires_grad_(True)


def hold_trained(model: nn.Module) -> None:
    """Give what is trained memory of its own, in float32, apart from the file that it may have been mapped from."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)


def hold_frozen(model: Classifier, compute_type: torch.dtype) -> None:
    """Convert the frozen matrices of the blocks to the compute type once, instead of at every pass.

    Args:
        model: the classifier, frozen as it is going to be.
        compute_type: of matrix products, such as bfloat16 under `bf16-mixed`.
    """
    for layer in model.backbone.linears():
        for parameter in layer.linear.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(compute_type)
