"""Which parameters a fine-tuning changes.

Each function takes a `GPTClassifier`, switches `requires_grad` of every parameter, and changes nothing else.
"""

from gpt_classifier.errors import UserError
from gpt_classifier.model.classifier import GPTClassifier


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
    if not 1 <= n <= len(blocks):
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
