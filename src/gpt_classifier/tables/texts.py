"""What can be a text or a label, and why something else can't: one list for training and prediction."""

import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import date, time, timedelta
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

from gpt_classifier.errors import OptionError

MISSING_LABELS = ("", "nan")  # what programs write for a missing one
NO_LABEL = "the label is empty"


def why_no_text(value: object) -> str:
    """Why a value can't be read as a text, or an empty string."""
    if value is None:
        return "the text is empty"
    if not isinstance(value, str):
        return f"the text is {_kind(value)}, not a string"
    if not value.strip():
        return "the text is empty"
    return "" if _has_characters(value) else "the text holds bytes or code points that are no characters"


def why_no_label(value: object) -> str:
    """Why a value can't be a label, or an empty string. Strings, numbers and truth values can."""
    value = _plain(value)
    if value is None or (isinstance(value, Real | Decimal) and math.isnan(value)):
        return NO_LABEL
    if isinstance(value, Real | Decimal):
        return "" if math.isfinite(value) else "the label is infinite"
    if not isinstance(value, str):
        return f"the label is {_kind(value)}, not a string or a whole number"
    if value.strip().lower() in MISSING_LABELS:
        return NO_LABEL
    return "" if _has_characters(value) else "the label holds bytes or code points that are no characters"


def label_name(value: object) -> str:
    """A label as the class name that a checkpoint keeps: the numbers 4 and 4.0 are '4'."""
    value = _plain(value)
    if isinstance(value, float | Decimal) and value == value.__trunc__():
        value = value.__trunc__()
    return str(value).strip()


def text_of(fields: Mapping[str, Any], column: str) -> tuple[str, str]:
    """A row's text, and why it can't be read, or an empty string.

    Args:
        fields: of the row, by column.
        column: that of texts.
    """
    if column not in fields:
        return "", f"there is no {column}"
    value = fields[column]
    return value if isinstance(value, str) else "", why_no_text(value)


def list_of(name: str, values: Any) -> list[Any]:
    """A list of what may be a list, a tuple, a numpy array, a pandas Series or another sequence.

    Args:
        name: of the parameter, for messages.
        values: one text, a table, a set, a mapping or a generator are none.

    Raises:
        OptionError: it is none.
    """
    dimensions = getattr(values, "ndim", 1)
    one = values is None or isinstance(values, str | bytes | bytearray)
    unordered = isinstance(values, Mapping | AbstractSet) or not hasattr(values, "__getitem__")
    if one or unordered or dimensions != 1 or not hasattr(values, "__len__"):
        found, hint = f"a {type(values).__name__}", "Make it a list."
        if values is None:
            found, hint = "None", ""
        elif one:
            hint = "Put it into a list."
        elif hasattr(values, "columns") or isinstance(values, Mapping):
            hint = "Give one of its columns, such as frame['text']."
        elif dimensions != 1:
            found, hint = f"{found} of {dimensions} dimensions", "Give one of its columns."
        raise OptionError(name, "a list, a numpy array of one dimension or a pandas Series", found, hint)
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _plain(value: object) -> object:
    """Python's own value of a numpy scalar."""
    item = getattr(value, "item", None)
    return item() if callable(item) else value


def _has_characters(text: str) -> bool:
    """Whether no lone surrogate is part of it, which is what undecodable bytes are read as."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: object) -> str:
    """What a value is, in the words of files."""
    kinds: tuple[tuple[Any, str], ...] = (
        (bool, "true or false"),
        (Integral | Real | Decimal, "a number"),
        (list | tuple, "a list"),
        (Mapping, "an object with keys"),
        (bytes | bytearray | memoryview, "binary"),
        (date | time | timedelta, "a date or time"),
    )
    return next((words for kind, words in kinds if isinstance(value, kind)), f"a {type(value).__name__}")
