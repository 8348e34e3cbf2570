"""What a GPT is trained on: the next token, or hidden ones with the whole text in sight."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt_classifier.models.gpt import GPT
from gpt_classifier.pretraining.corpus import Windows

CHUNKS = {"cpu": 256, "cuda": 4096}
"""Positions whose logits over the vocabulary are held at a time: few enough for a processor's cache."""


def next_token_loss(model: GPT, batch: Windows) -> Tensor:
    """Summed cross-entropy in nats of the token that follows each position, from it and those before.

    Args:
        model: a GPT.
        batch: windows of `(B, T)` tokens.
    """
    return _loss(model, model.hidden(batch.ids).flatten(0, 1), batch.targets.flatten())


def masked_token_loss(model: GPT, batch: Windows) -> Tensor:
    """Summed cross-entropy in nats of hidden tokens, each read one position before it.

    Every position sees the whole window, as under `causal=False`. Read where the next token is predicted, hidden
    tokens are learned by the same weights as the next one (Charpentier and Samuel, 2024, "GPT or BERT: why not
    both?"). A hidden token has no embedding of its own, only its position's, so the vocabulary needs no mask.

    Args:
        model: a GPT.
        batch: windows whose `hide` is set.
    """
    hide = batch.hide
    assert hide is not None, "a batch with hidden tokens"
    x = model.wte(batch.ids).masked_fill(hide[..., None], 0)  # (B, T, D)
    x = model.drop(x + model.wpe.weight[: hide.shape[1]])
    everything = hide.new_ones(1, hide.shape[1])
    for block in model.h:
        x = block(x, None, everything)
    following = hide[:, 1:]
    return _loss(model, model.norm(x)[:, :-1][following], batch.ids[:, 1:][following])


def _loss(model: GPT, hidden: Tensor, targets: Tensor) -> Tensor:
    device = hidden.device.type
    if torch.is_autocast_enabled(device):  # the autograd function below is not reached by autocast
        hidden = hidden.to(torch.get_autocast_dtype(device))
    loss: Tensor = LinearCrossEntropy.apply(hidden, model.wte.weight, targets, CHUNKS.get(device, 4096))
    return loss


class LinearCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of `hidden @ weight.T` without ever holding all logits.

    Gradients are computed in the forward pass, chunk by chunk, so that logits are neither kept nor computed twice
    (Hsu et al., 2024, "Liger Kernel"). `torch.nn.functional.linear_cross_entropy`, which torch has since 2.13, does
    the same, but sums bfloat16 losses in bfloat16.

    `apply(hidden, weight, targets, chunk)` takes `(N, D)`, `(V, D)`, `(N,)` ids and positions per chunk, and returns a
    float32 scalar in nats.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int) -> Tensor:
        matrix = weight.to(hidden.dtype)
        learning = any(ctx.needs_input_grad[:2])
        loss = hidden.new_zeros((), dtype=torch.float32)
        to_hidden, to_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        for rows in torch.arange(len(hidden)).split(chunk):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            h, ids = hidden[part], targets[part, None]
            log_p = F.log_softmax((h @ matrix.t()).float(), dim=-1)  # (chunk, V)
            loss -= log_p.gather(1, ids).sum()
            if learning:
                gradient = log_p.exp_().scatter_add_(1, ids, log_p.new_full(ids.shape, -1.0)).to(h.dtype)
                to_hidden[part] = gradient @ matrix
                to_weight += gradient.t() @ h
        ctx.save_for_backward(to_hidden, to_weight)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        to_hidden, to_weight = ctx.saved_tensors
        return to_hidden * gradients[0], to_weight * gradients[0], None, None
