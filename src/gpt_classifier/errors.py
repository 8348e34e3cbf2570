"""Errors that a person, not a programmer, is meant to read."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NOT_FOR_TERMINALS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters other than tab and line feed, what changes the direction of text, and lone surrogates."""


def printable(text: str) -> str:
    """A text with escapes, such as `\\x1b`, for what a terminal would obey or could not show.

    Column names and class names come from files that others wrote.
    """
    return NOT_FOR_TERMINALS.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)


class UserError(Exception):
    """Something outside the code is wrong: an input, an option, the network.

    Its message is one paragraph: what was expected, what was found, where, and what fixes it, `printable`.
    Commands print it without a traceback and exit with a status other than 0.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class OptionError(UserError):
    """A value that an option can't have.

    Library code names its own parameter. Whoever knows how a person sets it puts the group in front (`option_group`):
    the data package says `batch_size`, a command `data.batch_size`.

    Args:
        field: the parameter; dots separate groups.
        expected: what it takes.
        found: what it got.
        hint: what fixes it; `{field}` in it becomes the field's name, and `{group}` what stands before it, such as
            `data.` or nothing, so that another option of the group is named as `{group}max_length`.
    """

    def __init__(self, field: str, expected: str, found: object, hint: str = "") -> None:
        super().__init__(field, expected, found, hint)
        self.field = field
        self.expected = expected
        self.found = found
        self.hint = hint

    def __str__(self) -> str:
        # replace, not format: values may contain braces
        group = self.field[: self.field.rfind(".") + 1]
        hint = self.hint.replace("{field}", self.field).replace("{group}", group)
        return printable(f"{self.field}: expected {self.expected}, but it is {self.found}. {hint}".rstrip())


@contextmanager
def option_group(group: str) -> Iterator[None]:
    """Inside, the fields of `OptionError`s get a group's name in front, such as `data.`.

    So does one that another layer has wrapped, as Hydra's `instantiate` does.
    """
    try:
        yield
    except Exception as error:
        told = next((link for link in with_causes(error) if isinstance(link, OptionError)), None)
        if told is not None:
            told.field = f"{group}.{told.field}"
        raise


def with_causes(error: BaseException) -> list[BaseException]:
    """An error and those that it was raised from, the first cause last: `hydra.utils.instantiate` and others wrap."""
    links = [error]
    while (cause := links[-1].__cause__) is not None:
        links.append(cause)
    return links


def expect_number(
    option: str, value: object, low: float, high: float = math.inf, whole: bool = False, hint: str = ""
) -> None:
    """Refuse a value that is not a number in a range, ends included.

    Raises:
        OptionError: it is not.
    """
    right_type = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not right_type or not low <= value <= high or value == math.inf:  # type: ignore[operator]
        kind = "a whole number" if whole else "a number"
        size = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise OptionError(option, f"{kind} {size}", value, hint)


def expect_one_of(option: str, value: object, choices: tuple[str, ...], hint: str = "") -> None:
    """Refuse a value that is none of some words.

    Raises:
        OptionError: it is none of them.
    """
    if value not in choices:
        raise OptionError(option, f"{', '.join(choices[:-1])} or {choices[-1]}", value, hint)


def expect_bool(option: str, value: object) -> None:
    """Refuse a value that is not true or false.

    Raises:
        OptionError: it is neither.
    """
    if not isinstance(value, bool):
        raise OptionError(option, "true or false", value)


def first_line(error: BaseException) -> str:
    """An error's message, short enough to be part of a paragraph.

    Of `torch.load`, which advises to load files that it refused all the same, only why it refused is told.
    """
    text = str(error)
    if text.startswith("Weights only load failed"):
        if "Unsupported operand" in text:
            return "it is no file of tensors that torch.save wrote"
        return "it contains objects other than tensors and plain values, which are never loaded"
    return printable((text.splitlines() or [type(error).__name__])[0])


@contextmanager
def missing_told(told: Callable[[ModuleNotFoundError], str]) -> Iterator[None]:
    """Inside, modules are imported that may not be installed; one of this package that is missing is raised as it is.

    Args:
        told: what a person is told.

    Raises:
        UserError: one of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "gpt_classifier":
            raise
        raise UserError(told(error)) from error
