"""What every source gives: a text and a class name a row, and the order of the classes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import pandas as pd

EXTRA = "extra."
"""How columns of a frame begin that are other columns of the source."""


def extra_columns(frame: pd.DataFrame) -> list[str]:
    """Those columns of a frame that are other columns of the source."""
    return [column for column in map(str, frame.columns) if column.startswith(EXTRA)]


@dataclass(frozen=True)
class Messages:
    """What a source holds.

    Args:
        frame: columns `text` and `label` (both `str`, neither empty); `split`: `val` or `test` for rows that
            the source itself assigns, `None` for those that are yet to be split; and `row`, the number of the row in
            the source, from 0, gaps included (counted where it is missing). Where the source has them also `group`
            (messages that belong together), `time` (numbers or dates), `weight` (in the training loss) and
            `probabilities` (of each class, `(C,)` float32, learned in place of `label`; `None` for none). And other
            columns of the source, such as an id, each as `EXTRA` and its name, for tables of predictions.
        class_names: the labels, in the order of their ids.
        note: something that every report on this data must say; empty if nothing.
        whole_numbers: whether the labels are whole numbers in the source, and class names how these are written.
        unlabelled: texts without a label beside those that are yet to be split.
    """

    frame: pd.DataFrame
    class_names: list[str]
    note: str = ""
    whole_numbers: bool = False
    unlabelled: Sequence[str] = ()


class Source(Protocol):
    def prepare(self) -> None:
        """Fetch what has to be fetched, once for all processes of a machine."""

    def load(self) -> Messages: ...


def in_order(labels: Iterable[str]) -> list[str]:
    """Whole numbers by value, anything else by text."""
    try:
        return sorted(labels, key=int)
    except ValueError:
        return sorted(labels)
