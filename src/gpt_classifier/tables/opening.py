"""Files of text, opened: their encoding, whether they are compressed, and whether they are whole."""

import codecs
import gzip
import io
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from gpt_classifier.errors import OptionError, first_line

GZIP = b"\x1f\x8b"
"""How a gzip file begins, whatever its name; no text in UTF-8 does."""

ZIP = b"PK\x03\x04"

MOST_UNPACKED, MOST_TIMES = 2**26, 100
"""A compressed file may hold that many bytes, or that many times its own size: texts take a third to a twentieth."""


class _Whole(io.BufferedReader):
    """A regular file that must not end before the size that it had when it was opened."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.path = path
        found = os.fstat(self.fileno())
        self.expected = found.st_size if stat.S_ISREG(found.st_mode) else 0

    def read1(self, size: int = -1, /) -> bytes:
        part = super().read1(size)
        if not part and self.expected and self.tell() < self.expected:
            raise OptionError(
                "path",
                f"a file that stays as it is while it is read, {self.expected:,} bytes",
                f"{self.path}, which ended after {self.tell():,} bytes",
            )
        return part


class _Unpacked(gzip.GzipFile):
    """The content of a gzip file, unpacked as it is read, that must be whole and not far larger than the file.

    Args:
        packed: the opened file.
        name: of it, for messages.
        size: of it in bytes; `None` where nothing tells, as of standard input, which may then hold any number.
    """

    def __init__(self, packed: IO[bytes], name: str, size: int | None) -> None:
        super().__init__(fileobj=packed, mode="rb")
        self.shown = name
        self.size = size

    def read1(self, size: int = -1) -> bytes:
        with self._told():
            part = super().read1(size)
        if self.size is not None:
            expect_plausible_size(self.shown, self.tell(), self.size)
        return part

    def peek(self, n: int) -> bytes:
        with self._told():
            return super().peek(n)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            found = f"{self.shown}, which is broken off or damaged: {first_line(error)}"
            raise OptionError("path", "a whole gzip file", found, "Copy or download it again.") from error


def expect_plausible_size(name: str, unpacked: int, size: int) -> None:
    """Refuse a compressed file that would fill memory or disk, as one can be made to.

    Args:
        name: of the file, for messages.
        unpacked: bytes that it holds, as far as known.
        size: of the file itself in bytes.

    Raises:
        OptionError: of `path`: it holds far more than texts can be compressed to.
    """
    if unpacked > max(MOST_UNPACKED, MOST_TIMES * size):
        raise OptionError(
            "path",
            f"a compressed file that holds at most {MOST_TIMES} times its own size",
            f"{name}, which holds at least {unpacked:,} bytes in {size:,}",
            "Unpack it yourself if that is right.",
        )


def name_of(path: Path | None) -> str:
    """How messages call a file, or standard input."""
    return str(path or "standard input")


def text_encoding(name: str) -> str:
    """Python's own name of an encoding.

    Raises:
        OptionError: of `encoding`: there is none of that name, or it encodes something other than text, as `hex` does.
    """
    try:
        "".encode(name)
        return codecs.lookup(name).name
    except (LookupError, TypeError, ValueError) as error:
        raise OptionError("encoding", "an encoding of text that Python knows by name, such as utf-8", name) from error


@contextmanager
def opened(path: Path | None, encoding: str, keep_bytes: bool = False) -> Iterator[IO[str]]:
    """A text file, compressed by gzip or not, without its byte order mark, for `read_rows`.

    Args:
        path: of the file; `None` is standard input.
        encoding: a name that Python knows.
        keep_bytes: take bytes that the encoding does not know as lone surrogates, instead of refusing the file.

    Raises:
        OptionError: of `encoding`: there is no such encoding, or the file is in another one. Of `path`: the file
            becomes shorter while it is read; what is compressed is damaged, or unpacks to far more than files do.
        OSError: it can't be opened.
    """
    name = text_encoding(encoding)
    source: Any = _Whole(path) if path else sys.stdin.buffer
    if source.peek(2)[:2] == GZIP:
        source = _Unpacked(source, name_of(path), source.expected if isinstance(source, _Whole) else None)
    errors = "surrogateescape" if keep_bytes else "strict"
    with io.TextIOWrapper(source, "utf-8-sig" if name == "utf-8" else name, errors, newline="") as text:
        if source.peek(4)[:4] == ZIP:
            found = f"{name_of(path)}, which begins like a zip archive or an Excel workbook"
            raise OptionError("path", "a file of text", found, "Unpack it, or name it .xlsx if it is a workbook.")
        if name == "utf-8" and source.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            found = f"{encoding}, and it begins like utf-16"
            raise OptionError("encoding", f"the encoding of {name_of(path)}", found)
        try:
            yield text
        except UnicodeEncodeError:  # of what is written meanwhile
            raise
        except UnicodeError as error:
            raise OptionError("encoding", f"the encoding of {name_of(path)}", f"{encoding}: {error}") from error
