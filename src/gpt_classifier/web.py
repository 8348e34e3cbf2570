"""A file from the web, whatever its server does."""

import hashlib
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gpt_classifier.errors import UserError, first_line

log = logging.getLogger(__name__)

CONNECT_TIMEOUT, READ_TIMEOUT = 10, 30  # seconds without an answer, or without a further byte
CHUNK = 2**16  # bytes
TRIES = 5  # of `fetch_file` at one place, as long as each brings more of the file


def fetch_file(urls: Sequence[str], expected_sha256: str, target: Path, max_bytes: int, seconds: float) -> Path:
    """A file at the first of `urls` that serves the right one, however often the connection breaks off.

    Nothing is downloaded when `target` already has the expected content. What has come of it stays beside `target` as
    `NAME.part`, and the next call goes on from there. `target` appears only when it is whole and verified. The caller
    keeps other processes away.

    Args:
        urls: where the file is, the preferred place first.
        expected_sha256: of the file, in hexadecimal.
        target: the file to write, in a folder that is made when needed.
        max_bytes: that are taken.
        seconds: that all places together may take.

    Raises:
        UserError: none of the places served the expected file, each with its reason.
    """
    if target.exists() and file_sha256(target) == expected_sha256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    deadline = time.monotonic() + seconds
    reasons = {}
    for url in urls:
        for _ in range(TRIES):
            before = size_of(part)
            try:
                download(url, part, max_bytes, deadline - time.monotonic(), resume=True)
            except OSError as error:  # requests' errors are OSErrors
                reasons[url] = first_line(error)
                if size_of(part) <= before:
                    break
                continue
            found = file_sha256(part)
            if found == expected_sha256:
                os.replace(part, target)
                return target
            part.unlink()
            reasons[url] = f"expected {target.name} with sha256 {expected_sha256[:12]}…, found {found[:12]}…"
            if not before:  # what was there may have been of another file
                break
    kept = f" {size_of(part) / 1e6:.1f} MB of it are kept: the next try goes on from there." if size_of(part) else ""
    told = "; ".join(f"{url}: {reason}" for url, reason in reasons.items())
    raise UserError(f"Could not download {target.name}: {told}.{kept}")


def size_of(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(url: str, path: Path, max_bytes: int, seconds: float, resume: bool = False) -> Path:
    """Write what is at an address to a file, with a progress bar on a terminal.

    Args:
        url: with `http` or `https`.
        path: the file to write, which an error leaves incomplete.
        max_bytes: that are taken.
        seconds: that it may take, however busy the server is.
        resume: ask only for what `path` lacks at its end; a server that can't do that sends everything.

    Returns:
        `path`. Resumed, it may be of two files, if what is at the address has changed: compare a checksum.

    Raises:
        OSError: no answer, an error, a broken connection, more than `max_bytes`, or no end within `seconds`.
    """
    import requests  # only when something has to be fetched
    import urllib3.exceptions

    log.info("downloading %s", url)
    deadline = time.monotonic() + seconds
    there = path.stat().st_size if resume and path.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={there}-"} if there else {})
    late = OSError(f"not finished within {seconds:.0f} s")
    try:
        response = _within(
            seconds,
            late,
            lambda: requests.get(url, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT), headers=headers),
        )
        with response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                return path  # nothing comes after what is there
            response.raise_for_status()
            partial = response.status_code == requests.codes.partial_content
            if partial and not response.headers.get("Content-Range", "").startswith(f"bytes {there}-"):
                raise OSError("it sends another part than it was asked for")
            _write(response, path, there if partial else 0, max_bytes, deadline, late)
    except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise OSError("no answer in time") from error
    except (
        requests.exceptions.ConnectionError,
        requests.exceptions.ChunkedEncodingError,
        urllib3.exceptions.HTTPError,
    ) as error:
        raise OSError("the connection could not be made, or broke off") from error
    return path


def _write(response: Any, path: Path, there: int, max_bytes: int, deadline: float, late: OSError) -> None:
    """The body of a response into a file, after the bytes that are to stay, with a progress bar on a terminal."""
    from tqdm import tqdm

    too_large = OSError(f"it sends more than {max_bytes} bytes")
    length = response.headers.get("Content-Length", "")
    total = there + int(length) if length.isdecimal() else None
    if total is not None and total > max_bytes:
        raise too_large
    shown = sys.stderr.isatty()
    with (
        path.open("ab" if there else "wb") as file,
        tqdm(
            total=total, initial=there, desc=path.name, unit="B", unit_scale=True, leave=False, disable=not shown
        ) as bar,
    ):
        written = there
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
