"""How a process is asked to end, and what it answers."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STATUS = 128 + signal.SIGTERM
"""The exit status of a process that was asked to end: 143, as shells have it."""


def _asking() -> list[signal.Signals]:
    """The signals that ask: under Slurm also the warning that `--signal=USR1@…` sends before a job is pre-empted."""
    return [signal.SIGTERM, *([signal.SIGUSR1] if "SLURM_JOB_ID" in os.environ else [])]


def _follows() -> bool:
    """Whether this is a process of several, but not the first, which writes everything."""
    distributed: Any = sys.modules.get("torch.distributed")
    return bool(distributed and distributed.is_available() and distributed.is_initialized() and distributed.get_rank())


_handler = None


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Inside, SIGTERM is like Ctrl-C: what was begun is cleaned up, and then the process ends with `STATUS`.

    Where a program has a handler of its own, or in another thread than the main one, nothing is changed.

    Raises:
        SystemExit: with `STATUS`, after such a signal.
    """
    global _handler
    ours = threading.current_thread() is threading.main_thread() and _handler is None
    ours = ours and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not ours:
        yield
        return
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        first = not received
        received.append(number)
        if _follows():  # cleaning up would wait for the first process, which waits for this one
            os._exit(STATUS)
        if first:  # a second one must not break off the cleaning up
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _asking()}
    _handler = interrupt
    try:
        yield
    except BaseException:
        if received:  # whatever became of the interruption on its way
            raise SystemExit(STATUS) from None
        raise
    finally:
        _handler = None
        for number, handler in before.items():
            signal.signal(number, handler)


def take_back() -> None:
    """Set the handler of `ended_in_order` again where another library has put its own in its place."""
    if _handler is not None and threading.current_thread() is threading.main_thread():
        for number in _asking():
            signal.signal(number, _handler)
