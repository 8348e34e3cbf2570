"""The types that activations are kept in, and what they take there.

Of int8 each position has a scale, a float32 whose four bytes stand behind its values: what is kept is one tensor in any
type. The scale makes the largest value of the position 127.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from gpt_classifier.activations.cache_folder import GB, PrefixKey

SHARD_BYTES = 32 * 2**20  # one file; written at once, through a copy
HEADER_BYTES = 4096  # no header is longer
LARGEST = 127
SCALE_BYTES = 4


def computed_type(key: PrefixKey) -> torch.dtype:
    """The type of a key's matrix products."""
    return getattr(torch, key.dtype)


def kept_type(key: PrefixKey) -> torch.dtype:
    """The type that a key's activations are kept in."""
    return getattr(torch, key.stored or key.dtype)


def kept_width(key: PrefixKey) -> int:
    """Values of a position as it is kept, its scale among them."""
    return key.width + (SCALE_BYTES if key.stored == "int8" else 0)


def pack(x: Tensor, key: PrefixKey) -> Tensor:
    """Activations `(…, D)` as they are kept, `(…, kept_width)`."""
    if key.stored != "int8":
        return x.to(kept_type(key))
    x = x.float()
    scales = x.abs().amax(dim=-1, keepdim=True) / LARGEST
    values = (x / scales.clamp_min(torch.finfo(torch.float32).tiny)).round().to(torch.int8)
    return torch.cat([values, scales.view(torch.int8)], dim=-1)


def unpack(x: Tensor, key: PrefixKey) -> Tensor:
    """What `pack` kept, as float32 `(…, D)`; zeros of padding stay zeros."""
    if key.stored != "int8":
        return x.float()
    return x[..., : key.width] * x[..., key.width :].contiguous().view(torch.float32)


def message_bytes(key: PrefixKey, tokens: int) -> int:
    """What a message of so many tokens takes in a shard."""
    activations = key.positions(tokens) * kept_width(key) * kept_type(key).itemsize
    return activations + 4 * tokens + 8 + 8  # ids, length, checksum


def disk_bytes(key: PrefixKey, lengths: Iterable[int]) -> int:
    """What messages of so many tokens take in shards of their own, a little more at most."""
    size = sum(message_bytes(key, tokens) for tokens in lengths)
    return size + (size // SHARD_BYTES + 1) * HEADER_BYTES


def disk_gb(key: PrefixKey, lengths: Iterable[int]) -> float:
    """The same in 10^9 bytes."""
    return disk_bytes(key, lengths) / GB
