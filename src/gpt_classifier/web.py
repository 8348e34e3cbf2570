"""A file from the web, whatever its server does."""

import logging
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

CONNECT_TIMEOUT, READ_TIMEOUT = 10, 30  # seconds without an answer, or without a further byte
CHUNK = 2**16  # bytes


def download(url: str, path: Path, max_bytes: int, seconds: float) -> Path:
    """Write what is at an address to a file, with a progress bar on a terminal.

    Args:
        url: with `http` or `https`.
        path: the file to write, which an error leaves incomplete.
        max_bytes: that are taken.
        seconds: that it may take, however busy the server is.

    Returns:
        `path`.

    Raises:
        OSError: no answer, an error, a broken connection, more than `max_bytes`, or no end within `seconds`.
    """
    import requests  # only when something has to be fetched
    import urllib3.exceptions

    log.info("downloading %s", url)
    deadline = time.monotonic() + seconds
    late = OSError(f"not finished within {seconds:.0f} s")
    try:
        response = _within(
            seconds,
            late,
            lambda: requests.get(
                url, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT), headers={"Accept-Encoding": "identity"}
            ),
        )
        with response:
            response.raise_for_status()
            _write(response, path, max_bytes, deadline, late)
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise OSError("no answer in time") from error
    except (
        requests.exceptions.ConnectionError,
        requests.exceptions.ChunkedEncodingError,
        urllib3.exceptions.HTTPError,
    ) as error:
        raise OSError("the connection could not be made, or broke off") from error
    return path


def _write(response: Any, path: Path, max_bytes: int, deadline: float, late: OSError) -> None:
    """The body of a response into a file, with a progress bar on a terminal."""
    from tqdm import tqdm

    too_large = OSError(f"it sends more than {max_bytes} bytes")
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    if total is not None and total > max_bytes:
        raise too_large
    shown = sys.stderr.isatty()
    with (
        path.open("wb") as file,
        tqdm(total=total, desc=path.name, unit="B", unit_scale=True, leave=False, disable=not shown) as bar,
    ):
        written = 0
        # read1 returns as much as has come: the others wait for all that they were asked for
        while chunk := response.raw.read1(CHUNK, decode_content=True):
            written += len(chunk)
            if written > max_bytes:
                raise too_large
            if time.monotonic() > deadline:
                raise late
            file.write(chunk)
            bar.update(len(chunk))


def _within(seconds: float, late: OSError, ask: Callable[[], Any]) -> Any:
    """What `ask` returns or raises, or `late` if that takes longer; it then goes on in a thread that holds up nobody.

    A timeout of a socket is for one byte at a time, which a server may keep to for days before its headers end.
    """
    outcome: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put((ask(), None))
        except Exception as error:
            outcome.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        answer, error = outcome.get(timeout=max(0.0, seconds))
    except queue.Empty:
        raise late from None
    if error is not None:
        raise error
    return answer
