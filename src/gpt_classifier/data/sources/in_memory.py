"""Texts and labels that a Python program hands over."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from gpt_classifier.data.sources.messages import Messages, in_order
from gpt_classifier.errors import OptionError
from gpt_classifier.tables.texts import label_name, list_of, why_no_label, why_no_text


class Texts:
    """Texts and labels in memory, such as those that a Python program trains on.

    Each argument may be a list, a tuple, a numpy array of one dimension or a pandas Series with any index.

    Args:
        texts: as many `str` as there are messages, none empty.
        labels: a class for each: strings or whole numbers.
        weights: of each message in the training loss, at least 0; `None` for equal ones.
        groups: what each belongs to, such as a customer, for `split=grouped`; `None` for none.
        unlabelled: texts without a label, for `data.adapt=all_unlabelled`.

    Raises:
        OptionError: a value or a number of values is not as expected.
    """

    def __init__(
        self,
        texts: Sequence[str],
        labels: Sequence[Any],
        weights: Sequence[float] | None = None,
        groups: Sequence[Any] | None = None,
        unlabelled: Sequence[str] = (),
    ) -> None:
        frame = pd.DataFrame({"text": pd.Series(_usable("texts", texts), dtype=object)})
        if frame.empty:
            raise OptionError("texts", "at least one text", "an empty sequence")
        columns = {"label": labels, "weight": weights, "group": groups}
        for (name, values), option in zip(columns.items(), ("labels", "weights", "groups"), strict=True):
            if values is not None or name == "label":
                frame[name] = _one_for_each(option, list_of(option, values), len(frame))
        for place, label in enumerate(frame["label"]):
            if reason := why_no_label(label):
                raise OptionError("labels", "labels that are not empty", f"{label!r} in place {place}: {reason}")
        frame["label"] = frame["label"].map(label_name)
        if weights is not None:
            frame["weight"] = _as_weights(frame["weight"])
        self.frame = frame.assign(split=None, row=np.arange(len(frame)))
        self.unlabelled = _usable("unlabelled", unlabelled)

    def prepare(self) -> None:
        pass

    def load(self) -> Messages:
        return Messages(self.frame, in_order(self.frame["label"].unique()), unlabelled=self.unlabelled)


def _usable(option: str, texts: Sequence[str]) -> list[str]:
    found = list_of(option, texts)
    for place, text in enumerate(found):
        if reason := why_no_text(text):
            raise OptionError(option, "str that are not empty", f"{text!r} in place {place}: {reason}")
    return found


def _one_for_each(option: str, values: list[Any], number: int) -> pd.Series:
    if len(values) != number:
        raise OptionError(option, f"as many as there are texts, {number}", f"{len(values)} values")
    column = pd.Series(values, dtype=object)
    if column.isna().any():
        place = int(column.isna().to_numpy().argmax())
        raise OptionError(option, "a value for each text", f"{column[place]!r} in place {place}")
    return column


def _as_weights(weights: pd.Series) -> pd.Series:
    try:
        numbers = weights.astype(float)
    except (TypeError, ValueError) as error:
        raise OptionError("weights", "numbers of at least 0", error) from error
    wrong = ~numbers.between(0, math.inf, inclusive="left")
    if wrong.any():
        place = int(wrong.to_numpy().argmax())
        raise OptionError("weights", "numbers of at least 0", f"{weights[place]!r} in place {place}")
    return numbers
