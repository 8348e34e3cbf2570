"""How commands end: a mistake of the user is told in one paragraph, a fault of the program with its traceback.

Nothing here imports Hydra or OmegaConf: commands that compose no configuration start without them.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gpt_classifier.faults import DEBUG, paragraph_of
from gpt_classifier.signals import STATUS, ended_in_order

HYDRA_DEBUG = "HYDRA_FULL_ERROR"
"""Hydra's environment variable for what `DEBUG` is for, which decides where both are set."""


def debugging() -> bool:
    """Whether the environment asks for tracebacks."""
    return os.environ.get(DEBUG, os.environ.get(HYDRA_DEBUG, "")) not in ("", "0")


@contextmanager
def told_when_interrupted() -> Iterator[None]:
    """Inside a command: Ctrl-C and signals end it in order, with a line and a status other than 0.

    Raises:
        SystemExit: after either of them.
    """
    try:
        with ended_in_order():
            yield
    except KeyboardInterrupt:
        raise SystemExit("\nInterrupted.") from None
    except SystemExit as error:
        if error.code == STATUS:
            print("Ended by a signal.", file=sys.stderr)
        raise


@contextmanager
def readable_exit() -> Iterator[None]:
    """Inside a command: errors become a paragraph on standard error and the exit status 1, where they can.

    Raises:
        SystemExit: instead of an error that `paragraph_of` can tell.
    """
    try:
        with told_when_interrupted():
            yield
    except BrokenPipeError:  # whoever reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Exception as error:
        told = paragraph_of(error, f"{DEBUG}=1 shows the traceback.")
        if told is None or debugging():
            raise
        raise SystemExit(f"\n{told}") from None
