"""The one error that a person, not a programmer, is meant to read."""

import math


class UserError(Exception):
    """Something outside the code is wrong: an input, an option, the network.

    Its message is one paragraph: what was expected, what was found, where, and the override that helps.
    Commands print it without a traceback and exit with a status that is not 0.
    """


def expect_number(option: str, value: object, low: float, high: float = math.inf, whole: bool = False) -> None:
    """Refuse a value of an option that is not a number in a range, ends included.

    Raises:
        UserError: it is not.
    """
    right_type = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not right_type or not low <= value <= high:  # type: ignore[operator]
        kind = "a whole number" if whole else "a number"
        size = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise UserError(f"{option}: expected {kind} {size}, but it is {value}.")


def first_line(error: BaseException) -> str:
    """What an error says, short enough to be part of a paragraph."""
    return (str(error).splitlines() or [type(error).__name__])[0]
