"""Learning-rate schedules, a step at a time."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def cosine(optimizer: Optimizer, total_steps: int, warmup: float, final: float) -> LambdaLR:
    """Linear warm-up, then half a cosine (Loshchilov and Hutter, 2017, "SGDR").

    Args:
        optimizer: its learning rate is the peak.
        total_steps: optimizer steps of the whole training.
        warmup: part of them that warm up, 0 to 1.
        final: learning rate at the end, as a part of the peak.
    """
    warmup_steps = round(warmup * total_steps)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return final + (1 - final) * (1 + math.cos(math.pi * min(1.0, progress))) / 2

    return LambdaLR(optimizer, factor)
