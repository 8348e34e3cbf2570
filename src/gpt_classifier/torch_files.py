"""Files of torch: written whole, checked when they are opened, and never executed."""

import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from gpt_classifier.atomic import replacing

ZIP = b"PK\x03\x04"


def save(content: dict[str, Any], path: Path) -> None:
    """Write beside the target and rename: a file is whole or not there, and is not held in memory meanwhile.

    Raises:
        UserError: it can't be written, as on a full disk.
    """
    with replacing(path) as part:
        try:
            torch.save(content, part)
        except RuntimeError as error:  # torch does not say what the system said
            _write_more(part)
            raise OSError(f"torch could not write it ({error})") from error


def _write_more(path: Path) -> None:
    """Let the system say why a file can't grow."""
    with path.open("ab") as file:
        file.write(bytes(2**20))
        file.flush()
        os.fsync(file.fileno())


def load(path: Path) -> dict[str, Any]:
    """The tensors and plain values of a file, tensors mapped from it; the bytes of all of them are checked.

    Raises:
        ValueError: it is damaged.
        Exception: half a dozen other kinds, where it is no file of torch or holds other objects.
    """
    check(path)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def check(path: Path) -> None:
    """Compare the content with the checksums (CRC-32) that a file of torch has had since version 1.6.

    torch itself does not look at them when it maps a file. Takes about 1 s/GB; older files, which have none, pass.

    Raises:
        ValueError: bytes have changed since it was written.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            if file.read(len(ZIP)) == ZIP:
                raise ValueError("it is damaged: its end is missing")
        return
    try:
        with zipfile.ZipFile(path) as parts:
            damaged = parts.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OverflowError) as error:
        raise ValueError(f"it is damaged: {error}") from error
    if damaged is not None:
        raise ValueError(f"it is damaged: the checksum of {damaged.partition('/')[2] or damaged} is another one")
