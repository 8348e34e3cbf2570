"""Which messages may not be in different folds."""

from dataclasses import replace
from functools import cached_property

import numpy as np
import pandas as pd

from gpt_classifier.data import prepare
from gpt_classifier.data.sources import Messages, Source
from gpt_classifier.errors import UserError


class Folded:
    """All messages of a source, to be cut into folds: near-duplicates, and those of one group, have one `group`.

    Args:
        source: of the messages. It is loaded once, whatever the number of folds.

    Raises:
        UserError: on `load`, when the source has validation or test messages of its own.
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    def prepare(self) -> None:
        self.source.prepare()

    def load(self) -> Messages:
        return self._messages

    @cached_property
    def _messages(self) -> Messages:
        messages = self.source.load()
        given = messages.frame["split"].dropna().unique().tolist()
        if given:
            raise UserError(
                f"data: expected messages that can all be cut into folds, but the source has {' and '.join(given)} "
                f"messages of its own. Leave data.val_path and data.test_path out; of data=imdb, set "
                f"data.official_split=false; of data=hf, data.val_split=null data.test_split=null."
            )
        frame = messages.frame.drop(columns="time", errors="ignore")
        return replace(messages, frame=frame.assign(group=inseparable(frame)))


def inseparable(frame: pd.DataFrame) -> np.ndarray:
    """The number of the set of messages that each belongs to, `(N,)`; all of a set have to be in one fold.

    Near-duplicates (`prepare.fold`) are in one set, and so are messages with the same `group`, where there is such a
    column. Sets that share a message are one.
    """
    texts = pd.factorize(frame["text"].map(prepare.fold))[0]
    if "group" not in frame:
        return texts
    groups = pd.factorize(frame["group"])[0]
    joined = np.arange(len(frame))  # of each group, one that it is joined with; of the last of such a chain itself

    def last(group: int) -> int:
        while joined[group] != group:
            joined[group] = joined[joined[group]]
            group = int(joined[group])
        return group

    group_of: dict[int, int] = {}
    for text, group in zip(texts.tolist(), groups.tolist(), strict=True):
        joined[last(group)] = last(group_of.setdefault(text, group))
    return np.array([last(group) for group in groups.tolist()])
