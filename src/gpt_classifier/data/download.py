"""Fetch, verify, unpack; nothing here knows what a message is."""

import glob
import hashlib
import logging
import lzma
import os
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from gpt_classifier.atomic import held
from gpt_classifier.errors import UserError, first_line
from gpt_classifier.web import download

log = logging.getLogger(__name__)

DEADLINE = 600  # seconds of all that is tried


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def fetch_member(
    urls: Sequence[str], member: str, expected_sha256: str, target: Path, max_bytes: int, seconds: float = DEADLINE
) -> Path:
    """The file `member` of the zip archive at the first of `urls` that serves the right one.

    Nothing is downloaded when `target` already has the expected content. `target` appears only when it is
    whole and verified; whatever is interrupted leaves it as it was, and what a killed process left beside it is
    removed by the next download. Of several processes one downloads, and the others wait for it.

    Args:
        urls: where the archive is, the preferred place first.
        member: file name inside the archive; folders inside it are ignored, and so is every other member.
        expected_sha256: of the unpacked member, in hexadecimal.
        target: the file to write, in a folder that is made when needed.
        max_bytes: neither the archive nor the unpacked member may be larger.
        seconds: that all places together may take, however busy they are. Each gets an equal share of what is left,
            so that a slow one leaves time for the others.

    Raises:
        UserError: none of the places served the expected file, each with its reason; or the folder can't be written.
    """
    if _is_there(target, expected_sha256):  # before the lock, which a read-only folder does not allow
        return target
    with held(target):
        if not _is_there(target, expected_sha256):
            if target.exists():
                log.warning("%s is not the published file; fetching it again", target)
            prefix = f".{target.name}.download-"
            for left in target.parent.glob(f"{glob.escape(prefix)}*"):  # by a process that was killed: we have the lock
                shutil.rmtree(left, ignore_errors=True)
            _fetch(urls, member, expected_sha256, target, max_bytes, seconds, prefix)
    return target


def _is_there(target: Path, expected_sha256: str) -> bool:
    return target.exists() and sha256(target.read_bytes()) == expected_sha256


def _fetch(
    urls: Sequence[str],
    member: str,
    expected_sha256: str,
    target: Path,
    max_bytes: int,
    seconds: float,
    prefix: str,
) -> None:
    """As `fetch_member`; what is not whole yet lies in a folder whose name begins with `prefix`."""
    deadline = time.monotonic() + seconds
    reasons = []
    for place, url in enumerate(urls):
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix) as folder:
            try:
                share = (deadline - time.monotonic()) / (len(urls) - place)
                archive = download(url, Path(folder) / "archive.zip", max_bytes, share)
                content = read_member(archive, member, max_bytes)
            except (OSError, ValueError) as error:  # requests' errors are OSErrors
                reasons.append(f"{url}: {first_line(error)}")
                continue
            if sha256(content) != expected_sha256:
                reasons.append(
                    f"{url}: expected {member} with sha256 {expected_sha256[:12]}…, found {sha256(content)[:12]}…"
                )
                continue
            whole = Path(folder) / "whole"
            whole.write_bytes(content)
            os.replace(whole, target)
            return
    raise UserError(f"Could not download {member}: {'; '.join(reasons)}.")


def read_member(archive: Path, member: str, max_bytes: int) -> bytes:
    """The content of one file of a zip archive, found by its base name; nothing is written to disk.

    Folders of that name do not count.

    Raises:
        ValueError: not a zip archive, no such member, a damaged one, or one larger than `max_bytes`.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if not info.is_dir() and Path(info.filename).name == member:
                    with opened.open(info) as file:
                        content = file.read(max_bytes + 1)  # whatever size the archive claims
                    if len(content) > max_bytes:
                        raise ValueError(f"{member} in the archive is larger than {max_bytes} bytes")
                    return content
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"not a whole zip archive ({error})") from error
    raise ValueError(f"the archive has no file {member}")
