"""The texts that are labelled, the classes, and labels that are there already."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt_classifier.data.prepare import fold
from gpt_classifier.errors import OptionError
from gpt_classifier.tables.labelled import HINTS, LabelledFiles
from gpt_classifier.tables.reading import Style
from gpt_classifier.tables.texts import why_no_label
from gpt_classifier.tables.unlabelled import UnlabelledTexts

KEYS = "123456789abcdefghijklmnopqrstuvwxyz"
"""The key of each class, in the order in which they are given."""


@dataclass(frozen=True)
class Collection:
    """Texts without labels, of near-duplicates the first.

    Args:
        texts: N of them, no two alike when case, digits and punctuation are ignored.
        rows: `N` numbers of their rows or lines in the file, from 0.
        found: how many texts the file has.
        sha256: of the texts, by which they are known again.
    """

    texts: list[str]
    rows: list[int]
    found: int
    sha256: str

    @classmethod
    def read(cls, files: UnlabelledTexts) -> "Collection":
        """The texts of a file.

        Raises:
            UserError: it can't be read, or has no text.
        """
        return cls.of(files.numbered())

    @classmethod
    def of(cls, numbered: Sequence[tuple[int, str]]) -> "Collection":
        """The same of texts that have been read, each with the number of its row."""
        first: dict[str, tuple[int, str]] = {}
        for number, text in numbered:
            first.setdefault(fold(text), (number, text))
        rows, texts = [number for number, _ in first.values()], [text for _, text in first.values()]
        digest = hashlib.sha256(json.dumps(texts).encode())
        return cls(texts, rows, len(numbered), digest.hexdigest())


def class_names(given: str) -> list[str]:
    """The names in a list such as `ham,spam`, in their order.

    Raises:
        OptionError: of `classes`: there are fewer than two, or more than there are keys; one is empty or no label, or
            is there twice.
    """
    names = [name.strip() for name in given.split(",")]
    expected = f"from 2 to {len(KEYS)} different names, separated by commas"
    for name in names:
        if reason := why_no_label(name):
            raise OptionError("classes", expected, f"{given!r}, where {name!r} is no name: {reason}")
        if names.count(name) > 1:
            raise OptionError("classes", expected, f"{given!r}, where {name!r} is there {names.count(name)} times")
    if not 2 <= len(names) <= len(KEYS):
        raise OptionError("classes", expected, f"{given!r}, which has {len(names)}")
    return names


def known_labels(path: Path, classes: Sequence[str]) -> dict[str, int]:
    """Labels that are there already: the place of its class by text.

    Args:
        path: a table with the columns `text` and `label`, such as `results.write_labels` writes.
        classes: the names.

    Raises:
        OptionError: of `labels`: the file can't be read, has a label that is no class, or two labels of one text.
    """
    try:
        table, _ = LabelledFiles(path, {"text": "text", "label": "label"}, Style(), drop_incomplete=False).read()
    except OptionError as error:
        hint = HINTS.get(error.field, "") or "It needs a text and a label in every row."
        raise OptionError("labels", error.expected, error.found, hint.replace("{field}", "the file")) from error
    places: dict[str, int] = {}
    for text, label in zip(table.columns["text"], table.columns["label"], strict=True):
        if label not in classes:
            raise OptionError("labels", f"the classes {', '.join(classes)}", f"{path}, which has {label!r} too")
        if places.setdefault(text, classes.index(label)) != classes.index(label):
            shown = text if len(text) <= 40 else f"{text[:40]}…"
            raise OptionError("labels", "one label for each text", f"{path}, where {shown!r} has two")
    return places
