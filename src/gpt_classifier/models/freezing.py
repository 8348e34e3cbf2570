"""Which parameters a fine-tuning changes.

Each `train_*` function takes a `GPTClassifier`, switches `requires_grad` of every parameter, and changes nothing else.
"""

import torch
from torch import nn

from gpt_classifier.errors import UserError
from gpt_classifier.models.classifier import GPTClassifier


def train_head_only(model: GPTClassifier) -> None:
    """Train the linear head on a fixed backbone."""
    model.requires_grad_(False)
    model.head.requires_grad_(True)


def train_last_blocks(model: GPTClassifier, n: int) -> None:
    """Train the last `n` transformer blocks, the final LayerNorm and the head.

    Args:
        model: the classifier.
        n: from 1 to the number of blocks. All of them still leave the embeddings frozen.

    Raises:
        UserError: `n` is outside that range.
    """
    blocks = model.backbone.h
    if not isinstance(n, int) or not 1 <= n <= len(blocks):
        raise UserError(
            f"freeze.n: expected 1 to {len(blocks)}, the number of blocks of this model, but it is {n}. "
            f"Set freeze.n in that range, or freeze=none to train everything, embeddings included."
        )
    train_head_only(model)
    for block in blocks[-n:]:
        block.requires_grad_(True)
    model.backbone.ln_f.requires_grad_(True)


def train_everything(model: GPTClassifier) -> None:
    """Full fine-tuning."""
    model.requires_grad_(True)


def hold_trained(model: nn.Module) -> None:
    """Give what is trained memory of its own, in float32, apart from the file that it may have been mapped from."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)


def hold_frozen(model: GPTClassifier, compute_type: torch.dtype) -> None:
    """Convert the frozen matrices of the blocks to the compute type once, instead of at every pass.

    Args:
        model: the classifier, frozen as it is going to be.
        compute_type: of matrix products, such as bfloat16 under `bf16-mixed`.
    """
    for linear in model.backbone.h.modules():
        if isinstance(linear, nn.Linear):
            for parameter in linear.parameters():
                if not parameter.requires_grad:
                    parameter.data = parameter.data.to(compute_type)
