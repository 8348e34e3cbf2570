"""What a person is told of an error: those of ours, and those of other libraries that a setting most likely caused.

Nothing here imports Hydra, OmegaConf or torch: commands that compose no configuration start without them.
"""

import errno
import traceback
from contextlib import suppress
from pathlib import Path

from gpt_classifier.errors import UserError, first_line, with_causes

DEBUG = "GPT_CLASSIFIER_DEBUG"
"""The environment variable: 1 shows the traceback of every error."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says of a full disk, a used-up quota and a file that may not grow."""


def paragraph_of(error: BaseException, traceback_place: str) -> str | None:
    """What a person is told instead of a traceback.

    Args:
        error: as it was caught. Its causes are looked at too.
        traceback_place: a sentence that says where the traceback is. It ends the paragraph where the error is not one
            of ours but most likely the user's, such as an OSError: it may still be a fault of the program.

    Returns:
        The paragraph, or `None` for an error that nobody foresaw.
    """
    links = with_causes(error)
    for link in links:
        if isinstance(link, UserError):
            return str(link)
    for link in reversed(links):  # what began it says more than what it led to
        if told := _most_likely(link):
            return f"{told} {traceback_place}"
    return None


def keep_traceback(error: Exception, folder: Path) -> str:
    """Write an error's traceback into the folder of its run; returns a sentence that says where it is."""
    try:
        with (folder / "error.log").open("a", encoding="utf-8") as file:
            traceback.print_exception(error, file=file)
    except OSError:  # it may be why the run failed
        with suppress(OSError):
            (folder / "error.log").unlink()
        return f"{DEBUG}=1 shows the traceback."
    return f"The traceback is in {folder / 'error.log'}"


WRONG_VALUE = AttributeError | ImportError | TypeError | ValueError  # what a value that does not fit may raise
NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "annot allocate memory",
    "failed to map segment",
    "start new thread",
)
LESS_MEMORY = "A smaller model, data.batch_size, data.max_length or cache.max_gb needs less; so does freeze=last_block."
PROCESS_LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "NCCL error",
    "Broken pipe",
    "Timed out waiting",
)


def _lacks_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU
        return True
    return isinstance(error, RuntimeError | OSError | ImportError) and any(words in str(error) for words in NO_MEMORY)


def _most_likely(error: BaseException) -> str | None:
    """A paragraph about an error of another library that a user's setting most likely caused."""
    if isinstance(error, OSError) and error.errno in FULL and error.filename is None:
        return f"{error.strerror}. Make room, or set another place."
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}. Set another place, or make this one fit."
    if _lacks_memory(error):
        return f"There is not enough memory: {first_line(error)}. {LESS_MEMORY}"
    if isinstance(error, RuntimeError) and any(words in str(error) for words in PROCESS_LOST):
        return (
            "Another process of this run ended, or can't be reached. What it printed, or the system's log where it ran "
            "out of memory, says why. Fewer processes need less memory: trainer.devices=1."
        )
    if isinstance(error, RuntimeError) and str(error).startswith("Early stopping conditioned on metric"):
        return f"callbacks.early_stopping.monitor: it is not measured in this run. {first_line(error)}"
    # by name: a module that was never imported raised nothing, and each takes long to import
    names = {base.__name__ for base in type(error).__mro__}
    if "OmegaConfBaseException" in names:
        return f"{' '.join(str(error).split())}."
    if "MisconfigurationException" in names:
        return f"trainer: Lightning refuses these settings: {first_line(error)}"
    if "InstantiationException" in names and isinstance(error.__cause__, WRONG_VALUE | None):
        return " ".join(map(first_line, filter(None, (error, error.__cause__)))).rstrip()
    return None
