"""What was said of messages by models that were not trained on them, as a table and as numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pandas as pd

from gpt_classifier.atomic import write_table
from gpt_classifier.confusion import Confusion
from gpt_classifier.data.prepare import text_hash
from gpt_classifier.data.sources import EXTRA, extra_columns
from gpt_classifier.errors import UserError
from gpt_classifier.evaluation import metrics
from gpt_classifier.inference.writing import CONFIDENCE, LABEL, PROBABILITY

TABLE = "out_of_fold.csv"
OWN = ("row", "fold", "label", LABEL, CONFIDENCE)
"""Columns of the table beside a probability for each class, the text and those of the source."""

LEAST = 1e-30  # probability: less has no logarithm in float32


@dataclass(frozen=True)
class Spread:
    """A figure of several folds: their mean, and their standard deviation (`n - 1`)."""

    mean: float
    sd: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(mean(values), stdev(values))


@dataclass(frozen=True)
class OutOfFold:
    """A classifier's answers to N messages, each by the model of its fold.

    Args:
        name: of the classifier.
        frame: `row`, `label`, `text` and other columns of the source, and `fold`, from 0.
        class_names: C names.
        logits: `(N, C)` float32.
        seconds: that all folds took.
        chosen: what validation chose in each fold, in words; empty where that is nothing.
    """

    name: str
    frame: pd.DataFrame
    class_names: list[str]
    logits: np.ndarray
    seconds: float = 0.0
    chosen: tuple[str, ...] = ()

    @cached_property
    def predictions(self) -> metrics.Predictions:
        """As evaluations take them; nothing is known of lengths in tokens."""
        place = {name: i for i, name in enumerate(self.class_names)}
        ids = np.array([place[label] for label in self.frame["label"]])
        texts = self.frame["text"].tolist()
        return metrics.Predictions(texts, ids, self.logits, np.zeros(len(ids), dtype=np.int64), self.class_names)

    @property
    def fold(self) -> np.ndarray:
        """`(N,)`, from 0."""
        return self.frame["fold"].to_numpy()

    @property
    def probabilities(self) -> np.ndarray:
        """`(N, C)` float32."""
        return self.predictions.probabilities()

    def of_folds(self) -> list[dict[str, Any]]:
        """`messages`, `accuracy` and `macro_f1` of each fold."""
        found, classes = self.predictions, len(self.class_names)
        rows = []
        for fold in np.unique(self.fold):
            own = self.fold == fold
            macro_f1 = Confusion(found.labels[own], found.predicted[own], classes).macro_f1
            accuracy = float(found.right[own].mean())
            rows.append({"messages": int(own.sum()), "accuracy": accuracy, "macro_f1": macro_f1})
        return rows

    def spread(self, metric: str) -> Spread:
        """Of `accuracy` or `macro_f1` over the folds."""
        return Spread.of([row[metric] for row in self.of_folds()])

    def ordered(self, class_names: Sequence[str]) -> "OutOfFold":
        """The same with the columns in another order of the classes."""
        order = [self.class_names.index(name) for name in class_names]
        return replace(self, class_names=list(class_names), logits=self.logits[:, order])

    def numbers(self) -> dict[str, Any]:
        """All of it as plain values: by fold, over folds, and of all messages together, with calibration."""
        found = self.predictions
        names = ("mean_confidence", "accuracy", "messages")
        return {
            "messages": len(found.texts),
            "classes": self.class_names,
            **{metric: vars(self.spread(metric)) for metric in ("accuracy", "macro_f1")},
            "folds": self.of_folds(),
            "estimates": {name: vars(estimate) for name, estimate in metrics.estimates(found).items()},
            "calibration_error": metrics.calibration_error(found),
            "fitted_temperature": metrics.fit_temperature(found),
            "reliability": [dict(zip(names, row, strict=True)) for row in metrics.reliability(found)],
            "seconds": self.seconds,
            **({"chosen": list(self.chosen)} if self.chosen else {}),
        }

    def table(self, texts: bool = True) -> pd.DataFrame:
        """A row for each message: `OWN`, `probability_{class}` of each class, the text, other columns of the source.

        Args:
            texts: whether the texts are in it; else there is the column `hash` of them.
        """
        found = self.predictions
        columns: dict[str, Any] = {name: self.frame[name].to_numpy() for name in ("row", "fold", "label")}
        columns[LABEL] = np.array(self.class_names, dtype=object)[found.predicted]
        columns[CONFIDENCE] = found.confidence()
        probabilities = found.probabilities()
        columns |= {f"{PROBABILITY}{name}": probabilities[:, i] for i, name in enumerate(self.class_names)}
        kept = self.frame["text"] if texts else self.frame["text"].map(text_hash)
        columns["text" if texts else "hash"] = kept.to_numpy()
        others = {name: name.removeprefix(EXTRA) for name in extra_columns(self.frame)} if texts else {}
        shown = {name if other in columns else other: self.frame[name].to_numpy() for name, other in others.items()}
        return pd.DataFrame({**columns, **shown})

    def write(self, path: Path, texts: bool = True) -> None:
        """The table as CSV, whole or not at all.

        Raises:
            UserError: it can't be written.
        """
        write_table(path, self.table(texts))

    @classmethod
    def read(cls, path: Path) -> "OutOfFold":
        """Read what `write` wrote with texts.

        Args:
            path: of the table.

        Raises:
            UserError: there is no such file, it is something else, or it has no texts.
        """
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
            known = list(map(str, table.columns))
            names = [column.removeprefix(PROBABILITY) for column in known if column.startswith(PROBABILITY)]
            probabilities = table[[f"{PROBABILITY}{name}" for name in names]].to_numpy(dtype=np.float32)
            numbers = {name: table[name].astype(int) for name in ("row", "fold")}
            if not names or not table["label"].isin(names).all() or not np.isfinite(probabilities).all():
                raise ValueError("not a probability for each class")
            own = {*OWN, "text", "hash", *(f"{PROBABILITY}{name}" for name in names)}
            kept = {EXTRA + column.removeprefix(EXTRA): table[column] for column in known if column not in own}
            texts = table["text"]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{path}: expected a table of out-of-fold probabilities with texts, as gpt-classifier crossfit writes "
                f"it unless data.keep_texts=false, but it is not there, or none."
            ) from error
        frame = pd.DataFrame({**numbers, "label": table["label"], "text": texts, **kept})
        return cls(str(path.parent.name), frame, names, np.log(np.maximum(probabilities, LEAST)))
