"""Weights as text that an HTML file can hold, as few characters as keep the probabilities."""

import base64
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

BITS = 13
"""Of a weight that bfloat16 does not hold exactly: with 12, probabilities of messages can be off by 2e-3."""

LOW_BITS = 5  # of these, kept apart: they are noise, which no compression makes smaller

BASE85 = bytes.maketrans(b"<&>", b",.:")
"""Python's alphabet, but for the characters that mean something in HTML."""


def pack(tensors: Mapping[str, Tensor], rounded: Iterable[str]) -> tuple[list[dict[str, Any]], str]:
    """All tensors in one text, which `unpack` in `weights.js` reads.

    Each is stored in one of three kinds. `bfloat16`: exact, the exponents apart from the rest, as they compress well.
    `int13`: whole numbers from -4095 to 4095 times a float32 scale of each row. `float32`: as it is.

    Args:
        tensors: float32, by name.
        rounded: names of the large ones, of two dimensions: each is stored as `bfloat16` if that is exact, else as
            `int13`. All others are `float32`.

    Returns:
        What `weights.js` needs to know of each tensor, in order: `name`, `shape`, `kind`; and the text: base85 of all
        bytes, compressed with zlib.
    """
    # no search for repeats: weights have none, and what looks like one costs more than it saves
    compressor = zlib.compressobj(9, memLevel=9, strategy=zlib.Z_HUFFMAN_ONLY)
    rounded = set(rounded)
    table, parts = [], []
    for name, tensor in tensors.items():
        kind, stored = _stored(tensor) if name in rounded else ("float32", tensor.numpy().astype("<f4").tobytes())
        table.append({"name": name, "shape": list(tensor.shape), "kind": kind})
        parts.append(compressor.compress(stored))
    parts.append(compressor.flush())
    return table, base64.b85encode(b"".join(parts)).translate(BASE85).decode("ascii")


def _stored(tensor: Tensor) -> tuple[str, bytes]:
    narrow = tensor.to(torch.bfloat16)
    if torch.equal(narrow.float(), tensor):
        bits = narrow.contiguous().view(torch.int16).numpy().view(np.uint16)
        exponents, others = bits >> 7, (bits >> 8 & 128) | (bits & 127)  # others: the sign and 7 bits of the fraction
        return "bfloat16", (exponents & 255).astype(np.uint8).tobytes() + others.astype(np.uint8).tobytes()
    largest = 2 ** (BITS - 1) - 1
    scales = (tensor.abs().amax(dim=1, keepdim=True) / largest).clamp_min(torch.finfo(torch.float32).tiny)
    whole = (tensor / scales).round().to(torch.int16).numpy()
    high = ((whole >> LOW_BITS) + 128).astype(np.uint8)
    low = (whole & (2**LOW_BITS - 1)).astype(np.uint8)
    return f"int{BITS}", scales.numpy().astype("<f4").tobytes() + high.tobytes() + low.tobytes()
