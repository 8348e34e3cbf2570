"""Rows that can be trained on, and those that can't, counted by reason."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gpt_classifier.errors import OptionError
from gpt_classifier.tables.reading import TOO_MANY_FIELDS, Row
from gpt_classifier.tables.texts import label_name, text_of, why_no_label

log = logging.getLogger(__name__)


@dataclass
class Found:
    """Rows of a file that can be trained on, and those that can't.

    Args:
        columns: values of each role (`text`, `label`, …), as they are in the file but for labels, which are names.
        numbers: of these rows in the file, from 0.
        keys: names of the file's columns, in the order in which rows have them.
        total: number of rows.
        unusable: by reason, how many rows and the number of the first.
    """

    columns: dict[str, list[Any]]
    numbers: list[int] = field(default_factory=list)
    keys: dict[str, None] = field(default_factory=dict)
    total: int = 0
    unusable: dict[str, tuple[int, int]] = field(default_factory=dict)

    def without_unusable(self, name: str, option: str, drop: bool) -> "Found":
        """The rows that can be trained on, with a warning about those that can't.

        Args:
            name: of the file, for messages.
            option: of the file, for messages.
            drop: go on without the rows that can't.

        Raises:
            OptionError: there are such rows and `drop` is false, or no row is left.
        """
        reasons = "; ".join(
            f"{reason} ({count}, the first in data row {first + 1})" for reason, (count, first) in self.unusable.items()
        )
        told = f"{self.total - len(self.numbers)} of {self.total} rows can't be used: {reasons}"
        if self.unusable and not drop:
            hint = "Fix the file, or, for a table of your own, set {group}drop_incomplete=true to leave such rows out."
            if TOO_MANY_FIELDS in self.unusable:
                hint += " {group}separator and {group}quoting (none, minimal) say how it is written."
            raise OptionError(option, "a file with a text and a label in every row", f"{name}, where {told}", hint)
        if not self.numbers:
            found = f"{name}, where {told}" if self.unusable else f"{name}, which has no rows"
            raise OptionError(option, "a file with at least one text and its label", found)
        if self.unusable:
            log.warning("%s: left out (drop_incomplete) because %s", name, told)
        return self


def find_usable(rows: Iterable[Row], columns: Mapping[str, str]) -> Found:
    """Read rows to their end, and tell those that can be trained on from those that can't.

    Args:
        rows: of a file.
        columns: the column of each role; those of the roles `text` and `label` decide.
    """
    found = Found({role: [] for role in columns})
    known: dict[str, tuple[str, str]] = {}
    for number, row in enumerate(rows):
        found.total += 1
        fields, reason, name = row.fields, row.reason, ""
        if not reason:
            if not fields.keys() <= found.keys.keys():
                found.keys |= dict.fromkeys(fields)
            _, reason = text_of(fields, columns["text"])
        if not reason:
            name, reason = _name_of(fields.get(columns["label"]), known)
        if reason:
            kind = reason.partition(":")[0]
            count, first = found.unusable.get(kind, (0, number))
            found.unusable[kind] = (count + 1, first)
            continue
        found.numbers.append(number)
        for role, column in columns.items():
            found.columns[role].append(name if role == "label" else fields.get(column))
    return found


def _name_of(label: object, known: dict[str, tuple[str, str]]) -> tuple[str, str]:
    """A label's class name, and why it is none, or an empty string; `known` keeps both for labels that are strings."""
    if isinstance(label, str) and label in known:
        return known[label]
    reason = why_no_label(label)
    found = ("" if reason else label_name(label), reason)
    if isinstance(label, str):
        known[label] = found
    return found
