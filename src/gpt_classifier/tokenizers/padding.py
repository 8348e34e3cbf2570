"""Token rows into padded batches, in numpy alone: what prediction needs with torch and without."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

PadTo = int | Literal["batch"]
Part = tuple[list[int], int]
"""Rows of the dataset and the length that they are padded to."""


def padded(rows: Sequence[np.ndarray], length: int, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Right-pad token rows: `(B, length)` int32 ids and `(B,)` int64 numbers of real tokens."""
    ids = np.full((len(rows), length), pad_id, dtype=np.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return ids, np.array([len(row) for row in rows], dtype=np.int64)


def evaluation_parts(
    lengths: np.ndarray, batch_size: int, pad_to: PadTo, in_order: bool, budget: int, most_padding: int | None = None
) -> Iterator[Part]:
    """All rows once, in batches.

    Where batches are padded to their longest row, rows are sorted by length and a batch takes as many as fit into
    `budget` tokens, unless `in_order` asks for batches of `batch_size` as the rows come.

    Args:
        lengths: tokens of each row.
        batch_size: rows of a batch that is not cut by length.
        pad_to: `batch` for each batch's longest row, or a number of tokens.
        in_order: as the rows come.
        budget: tokens of a batch that is cut by length, padding included; a longer row is a batch of its own.
        most_padding: of these tokens, what padding may be: a few rows of many lengths take less time as several batches
            than as one; `None` for any.
    """
    by_length = pad_to == "batch" and not in_order
    batches = (
        _by_length(lengths, budget, budget if most_padding is None else most_padding)
        if by_length
        else _as_they_come(len(lengths), batch_size)
    )
    for batch in batches:
        yield batch, int(lengths[batch].max()) if pad_to == "batch" else pad_to


def _as_they_come(number: int, batch_size: int) -> Iterator[list[int]]:
    for start in range(0, number, batch_size):
        yield list(range(start, min(start + batch_size, number)))


def _by_length(lengths: np.ndarray, budget: int, most_padding: int) -> Iterator[list[int]]:
    batch: list[int] = []
    real = 0  # tokens of the batch
    for i in np.argsort(lengths, kind="stable").tolist():
        size = (len(batch) + 1) * lengths[i]
        if batch and (size > budget or size - real - lengths[i] > most_padding):
            yield batch
            batch, real = [], 0
        batch.append(i)
        real += lengths[i]
    if batch:
        yield batch
