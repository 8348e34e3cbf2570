"""Say what concerns the user, once."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch.utilities.rank_zero import rank_zero_only

OF_NO_CONCERN = (
    ".*does not have many workers.*",  # messages and text are in memory, tokenized
    ".*smaller than the logging interval.*",  # such a run has its epochs to look at
    ".*mid-epoch.*",  # a pretraining's loader goes on from the step
    ".*The dirpath has changed.*",  # of a resumed run
    ".*exists and is not empty.*",
    ".*module\\(s\\) in eval mode at the start of training.*",  # frozen stages of an encoder, where nothing is dropped
    ".*LeafSpec.*",
    ".*Total length of `list` across ranks is zero.*",  # without validation messages there are no loaders of them
    ".*Glyph .* missing from font.*",  # a class name in a script that the pictures' font lacks
    ".*It is recommended to use `self.log.*sync_dist=True.*",  # metrics are gathered before they are logged
    ".*You have overridden `on_before_batch_transfer`.*",
)


@contextmanager
def quiet(all_of_it: bool = False) -> Iterator[None]:
    """Inside, what Lightning tells its developers is silent, and so are all processes but the first.

    Args:
        all_of_it: this package says nothing either.
    """
    levels = {"lightning.pytorch": logging.WARNING, "lightning.fabric": logging.WARNING}
    if all_of_it or rank_zero_only.rank != 0:  # type: ignore[attr-defined] # known before the trainer is
        levels["gpt_classifier"] = logging.ERROR
    hook = threading.excepthook

    def excepthook(failed: threading.ExceptHookArgs) -> None:
        # TensorBoard's thread: the error is raised again in the next thread that writes
        if type(failed.thread).__name__ != "_AsyncWriterThread" or not isinstance(failed.exc_value, OSError):
            hook(failed)

    before = {name: logging.getLogger(name).level for name in levels}
    with warnings.catch_warnings():
        for message in OF_NO_CONCERN:
            warnings.filterwarnings("ignore", message)
        try:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
            threading.excepthook = excepthook
            yield
        finally:
            threading.excepthook = hook
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)
