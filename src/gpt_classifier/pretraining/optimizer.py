"""What trains a GPT from text: AdamW for all parameters, or NorMuon for the matrices of the blocks."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from gpt_classifier.models.gpt import GPT

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of Jordan et al. (2024): five steps bring all singular values near 1."""


def adamw(model: GPT, lr: float, weight_decay: float, betas: tuple[float, float]) -> Optimizer:
    """AdamW with weight decay on matrices, embeddings among them, and none on biases and LayerNorms.

    Args:
        model: to train.
        lr: peak learning rate.
        weight_decay: of matrices.
        betas: of AdamW.
    """
    return Joined(_adamw(model.parameters(), lr, lr, weight_decay, betas))


def normuon(
    model: GPT,
    lr: float,
    embedding_lr: float,
    muon_lr: float,
    momentum: float,
    beta2: float,
    weight_decay: float,
    betas: tuple[float, float],
) -> Optimizer:
    """NorMuon for the matrices of the blocks, AdamW for everything else.

    Args:
        model: to train.
        lr: peak learning rate of biases and LayerNorms.
        embedding_lr: peak learning rate of both embeddings.
        muon_lr: peak learning rate of the matrices of the blocks, at AdamW's size of step.
        momentum: of NorMuon.
        beta2: of NorMuon's mean of squares.
        weight_decay: of matrices and embeddings.
        betas: of AdamW.
    """
    matrices = [p for p in model.h.parameters() if p.dim() == 2]
    chosen = set(map(id, matrices))
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return Joined(
        NorMuon(matrices, muon_lr, momentum, beta2, weight_decay),
        _adamw(rest, embedding_lr, lr, weight_decay, betas),
    )


def _adamw(
    parameters: Iterable[nn.Parameter], matrix_lr: float, lr: float, weight_decay: float, betas: tuple[float, float]
) -> AdamW:
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "lr": matrix_lr, "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "lr": lr, "weight_decay": 0.0},
    ]
    return AdamW(groups, betas=(betas[0], betas[1]), fused=True)


class NorMuon(Optimizer):
    """Momentum, made orthogonal, with rows of equal size over time (Li et al., 2025, "NorMuon").

    Muon (Jordan et al., 2024) steps along the orthogonal matrix next to the momentum; here each row of it is divided
    by the root of its mean square, of this and earlier steps. A step has a root mean square of 0.2, as AdamW's
    have (Liu et al., 2025, "Muon is scalable"). GPT-2's query, key and value lie in one matrix, of thrice as many
    rows as columns, and are three here.

    Args:
        matrices: `(out, in)` parameters.
        lr: learning rate.
        momentum: of the gradients, with Nesterov's look ahead.
        beta2: of the rows' mean squares.
        weight_decay: decoupled, times the learning rate.
    """

    def __init__(
        self, matrices: Iterable[nn.Parameter], lr: float, momentum: float, beta2: float, weight_decay: float
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "beta2": beta2, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            alike: dict[torch.Size, list[tuple[Tensor, Tensor, Tensor]]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    for part in self._parts(parameter, group["momentum"]):
                        alike[part[0].shape].append(part)
            for shape, parts in alike.items():
                updates = orthogonal(torch.stack([update for _, update, _ in parts]))
                squares = torch.stack([square for _, _, square in parts])
                squares.lerp_(updates.square().mean(dim=-1, keepdim=True), 1 - group["beta2"])
                updates = updates / (squares.sqrt() + 1e-8)
                size = 0.2 * (shape[0] * shape[1]) ** 0.5
                updates *= size / updates.norm(dim=(-2, -1), keepdim=True)
                for (matrix, _, square), update, new_square in zip(parts, updates, squares, strict=True):
                    square.copy_(new_square)
                    matrix.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=group["lr"])

    def _parts(self, parameter: nn.Parameter, momentum: float) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
        """Matrices to make orthogonal: views of the parameter, their momentum looked ahead, and their mean squares."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
            state["squares"] = torch.zeros_like(parameter[:, :1])
        state["momentum"].lerp_(parameter.grad, 1 - momentum)
        update = parameter.grad.lerp(state["momentum"], momentum)
        number = 3 if parameter.shape[0] == 3 * parameter.shape[1] else 1
        return zip(parameter.data.chunk(number), update.chunk(number), state["squares"].chunk(number), strict=True)


def orthogonal(matrices: Tensor) -> Tensor:
    """What is next to each of the matrices `(N, out, in)` and has singular values near 1, by Newton-Schulz steps."""
    a, b, c = NEWTON_SCHULZ
    x = matrices.bfloat16()
    upright = x.shape[1] > x.shape[2]
    x = x.mT if upright else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        product = x @ x.mT
        x = a * x + (b * product + c * product @ product) @ x
    return (x.mT if upright else x).float()


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
