"""What trains a GPT from text: AdamW for all parameters, or Muon for the matrices of the blocks."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import AdamW, Optimizer

from gpt_classifier.errors import UserError
from gpt_classifier.models.gpt import GPT


def adamw(model: GPT, lr: float, weight_decay: float, betas: tuple[float, float]) -> Optimizer:
    """AdamW with weight decay on matrices, embeddings among them, and none on biases and LayerNorms.

    Args:
        model: to train.
        lr: peak learning rate.
        weight_decay: of matrices.
        betas: of AdamW.
    """
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return Joined(AdamW(groups, lr=lr, betas=(betas[0], betas[1]), fused=True))


def muon(
    model: GPT, lr: float, weight_decay: float, betas: tuple[float, float], muon_lr: float, momentum: float
) -> Optimizer:
    """Muon (Jordan et al., 2024) for the matrices of the blocks, AdamW as above for everything else.

    Args:
        model: to train.
        lr: peak learning rate of AdamW.
        weight_decay: of matrices.
        betas: of AdamW.
        muon_lr: peak learning rate of Muon, scaled to AdamW's size of step as Liu et al. (2025) do.
        momentum: of Muon.

    Raises:
        UserError: this torch has no Muon.
    """
    if not hasattr(torch.optim, "Muon"):
        raise UserError("optimizer=muon needs torch 2.9 or newer. Update torch, or set pretraining@optimizer=adamw.")
    matrices = [p for p in model.h.parameters() if p.dim() == 2]
    chosen = set(map(id, matrices))
    others = [p for p in model.parameters() if id(p) not in chosen]
    groups = [
        {"params": [p for p in others if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in others if p.dim() < 2], "weight_decay": 0.0},
    ]
    return Joined(
        torch.optim.Muon(
            matrices, lr=muon_lr, weight_decay=weight_decay, momentum=momentum, adjust_lr_fn="match_rms_adamw"
        ),
        AdamW(groups, lr=lr, betas=(betas[0], betas[1]), fused=True),
    )


class Joined(Optimizer):
    """Several optimizers, each with parameters of its own, where one is expected.

    Lightning refuses to clip gradients for a fused AdamW as it is, which might unscale them itself; behind this it
    is not asked to.
    """

    def __init__(self, *optimizers: Optimizer) -> None:
        self.optimizers = optimizers
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, state_dict["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.param_groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
