"""What keeping activations costs, said before it is paid, and what smaller settings would cost."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from gpt_classifier.activations.cache_folder import PrefixKey
from gpt_classifier.activations.storage import disk_gb

FEW_PASSES = 20  # too few to measure one of them first


def smaller_settings(key: PrefixKey, lengths: Sequence[int]) -> str:
    """What would take less, such as `cache.dtype=int8 1.2 GB, data.max_length=256 2.3 GB`; empty if nothing would.

    Args:
        key: of the activations.
        lengths: tokens of each distinct message.
    """
    size = disk_gb(key, lengths)
    costs = {f"cache.dtype={name}": disk_gb(replace(key, stored=name), lengths) for name in ("bfloat16", "int8")}
    if key.pooling is None and key.padded_length is None:
        shorter = {most: disk_gb(key, [min(tokens, most) for tokens in lengths]) for most in _powers(max(lengths))}
        most = next((most for most, cost in shorter.items() if cost <= size / 2), None)
        if most is not None:
            costs[f"data.max_length={most}"] = shorter[most]
    return ", ".join(f"{setting} {told(cost)}" for setting, cost in costs.items() if cost < 0.9 * size)


def told(gb: float) -> str:
    """A size with two digits, such as `0.31 GB` or `12 GB`."""
    return f"{gb:.0f} GB" if gb >= 9.95 else f"{float(f'{gb:.2g}'):g} GB"


def told_seconds(seconds: float) -> str:
    """A time as one would say it before: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def seconds_of(batches: Sequence[list[np.ndarray]], compute: Callable[[list[np.ndarray]], object]) -> float:
    """How long all batches are going to take, from a typical one; `nan` where they are too few to measure it first.

    Args:
        batches: of one pass each.
        compute: a pass.
    """
    if len(batches) < FEW_PASSES:
        return math.nan
    tokens = [sum(map(len, batch)) for batch in batches]
    typical = int(np.searchsorted(np.cumsum(tokens), sum(tokens) / 2))
    compute(batches[typical])  # the first pass chooses kernels
    began = time.perf_counter()
    compute(batches[typical])
    return (time.perf_counter() - began) * sum(tokens) / tokens[typical]


def _powers(longest: int) -> list[int]:
    """Powers of two below a length, the largest first, down to 16."""
    return [2**n for n in range(longest.bit_length(), 3, -1) if 2**n < longest]
