"""Data sets of the Hugging Face Hub, and local ones of its library."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pandas as pd

from gpt_classifier.data.sources.messages import Messages, in_order
from gpt_classifier.data.sources.table import expect_labels, frame_of
from gpt_classifier.errors import OptionError
from gpt_classifier.hub import fetch_dataset
from gpt_classifier.tables.labelled import MOST_OTHERS
from gpt_classifier.tables.rows import Row, expect_column, size_of
from gpt_classifier.tables.usable import Found, find_usable

log = logging.getLogger(__name__)

AUTO = "auto"
USUAL = {"val": ("validation", "val", "dev"), "test": ("test",)}
"""Names of splits that `auto` looks for, the first that there is."""

ROWS = 1000  # that are Python values at a time


class HubDataset:
    """A data set by its name on the Hugging Face Hub, through the library datasets and its cache.

    Code of a repository is never run. Names of classes are those that the data set gives to its numbers.

    Args:
        path: its name, such as `stanfordnlp/imdb`; or a local folder, with files or as `save_to_disk` leaves it.
        config: which of its configurations; `None` where there is one.
        text_column: its column of texts; `auto` for `text`, or its only column of strings.
        label_column: its column of labels; `auto` for `label`, or its only column of classes.
        train_split: its split that is trained on, and that validation and test are taken from as far as it has none.
        val_split: its split for validation; `auto` for `validation`, `val` or `dev`, if it has one; `None` for none.
        test_split: its split for testing; `auto` for `test`, if it has one with labels; `None` for none.
        revision: commit, tag or branch; `None` for the main branch.
        drop_incomplete: leave out rows that can't be used, with a warning, instead of refusing them.

    Raises:
        UserError: on `prepare` or `load`, the data set can't be had, or is not as expected.
    """

    def __init__(
        self,
        path: str | None,
        config: str | None = None,
        text_column: str = AUTO,
        label_column: str = AUTO,
        train_split: str = "train",
        val_split: str | None = AUTO,
        test_split: str | None = AUTO,
        revision: str | None = None,
        drop_incomplete: bool = False,
    ) -> None:
        if not path:
            hint = "Set {field}=NAME, such as stanfordnlp/imdb."
            raise OptionError("path", "the name of a data set on the Hugging Face Hub", path, hint)
        self.path = path
        self.config = config
        self.named = {"text": text_column, "label": label_column}
        self.train_split = train_split
        self.others = {"val": val_split, "test": test_split}
        self.revision = revision
        self.drop_incomplete = drop_incomplete
        self._fetched: Mapping[str, Any] | None = None

    def prepare(self) -> None:
        self._fetched = fetch_dataset(self.path, self.config, self.revision)

    def load(self) -> Messages:
        splits = self._fetched or fetch_dataset(self.path, self.config, self.revision)
        chosen = self._choose(splits)
        columns = self._columns(splits[self.train_split])
        found = {part: self._read(splits[name], name, columns) for part, name in chosen.items()}
        if "test" in found and not found["test"].numbers and self.others["test"] == AUTO:
            log.info("%s: its split %s has no labels, and is not used", self.path, chosen["test"])
            del found["test"]
        for part, table in found.items():
            table.without_unusable(f"{self.path}, split {chosen[part]}", "path", self.drop_incomplete)
        frames = {part: frame_of(table, None if part == "train" else part) for part, table in found.items()}
        class_names = self._class_names(splits[self.train_split].features[columns["label"]], frames["train"])
        for part, frame in frames.items():
            expect_labels(frame, class_names, f"{part}_split", f"split {chosen[part]} of {self.path}")
        whole_numbers = all(table.whole_numbers for table in found.values())
        messages, unlabelled = pd.concat(frames.values(), ignore_index=True), found["train"].unlabelled
        return Messages(messages, class_names, whole_numbers=whole_numbers, unlabelled=unlabelled)

    def _choose(self, splits: Mapping[str, Any]) -> dict[str, str]:
        """The data set's split for `train` and, as far as there is one, `val` and `test`."""
        chosen = {"train": self.train_split}
        for part, given in self.others.items():
            name = next((name for name in USUAL[part] if name in splits), None) if given == AUTO else given
            if name and not (given == AUTO and name == self.train_split):
                chosen[part] = name
        for part, name in chosen.items():
            if name not in splits:
                raise OptionError(f"{part}_split", f"a split of {self.path} ({', '.join(splits)})", repr(name))
        return chosen

    def _columns(self, dataset: Any) -> dict[str, str]:
        """The columns of texts and labels, as they are named or found."""
        features = dataset.features
        strings = [name for name, kind in features.items() if getattr(kind, "dtype", "") in ("string", "large_string")]
        classes = [name for name, kind in features.items() if hasattr(kind, "int2str")]
        columns = {}
        for role, candidates in (("text", strings), ("label", classes)):
            only = candidates[0] if role not in features and len(candidates) == 1 else role
            columns[role] = only if self.named[role] == AUTO else self.named[role]
            expect_column(f"{role}_column", columns[role], list(features), self.path)
        if columns["text"] == columns["label"]:
            raise OptionError("label_column", "another column than that of texts", repr(columns["label"]))
        return columns

    def _read(self, dataset: Any, name: str, columns: Mapping[str, str]) -> Found:
        for role, column in columns.items():
            expect_column(f"{role}_column", column, list(dataset.features), f"split {name} of {self.path}")
        return find_usable(_rows(dataset, columns), columns, most_others=MOST_OTHERS)

    @staticmethod
    def _class_names(kind: Any, train: pd.DataFrame) -> list[str]:
        """The classes that are trained on, in the order of the data set's numbers, if it has such."""
        there = set(train["label"])
        return [name for name in getattr(kind, "names", in_order(there)) if name in there]


PLAIN = ("Value", "ClassLabel")
"""Kinds of columns that are read beside text and label: no lists, pictures or sounds."""


def _rows(dataset: Any, columns: Mapping[str, str]) -> Iterator[Row]:
    """The rows of a split, its classes by their names; -1 is a missing label."""
    features, label_column = dataset.features, columns["label"]
    name_of: Callable[[int], str] | None = getattr(features[label_column], "int2str", None)
    plain = [name for name, kind in features.items() if type(kind).__name__ in PLAIN and "binary" not in kind.dtype]
    wanted = list(dict.fromkeys([*plain, *columns.values()]))
    for batch in dataset.select_columns(wanted).iter(batch_size=ROWS):
        for values in zip(*batch.values(), strict=True):
            fields = dict(zip(batch, values, strict=True))
            label = fields[label_column]
            if name_of is not None:
                fields[label_column] = None if label is None or label < 0 else name_of(label)
            yield Row(fields, size=size_of(values))
