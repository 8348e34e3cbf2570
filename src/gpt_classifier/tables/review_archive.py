"""Film reviews as Stanford published them: a tar archive with one file a review."""

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path

MEMBER = re.compile(r"aclImdb/(train|test)/(pos|neg)/(\d{1,6})_(10|[1-9])\.txt")  # split, class, id, rating
PARTS = tuple(product(("test", "train"), ("pos", "neg")))
"""In the order in which the origin of the book's third bonus reads them, so that its random split is ours."""

EACH = 12_500  # reviews of a class in a split
REVIEW_BYTES, ARCHIVE_BYTES = 2**20, 2**30  # unpacked; the longest review has 13,704, and all is half a gigabyte
COLUMNS = ["split", "label", "id", "rating", "text"]
DAMAGE = (OSError, EOFError, ValueError, tarfile.TarError, zlib.error)
"""What a file raises that is no such archive."""


def read_archive(archive: Path) -> list[list[str | int]]:
    """The labelled reviews of Stanford's archive; nothing is unpacked to disk, whatever its members are called.

    Args:
        archive: a tar file, compressed by gzip.

    Returns:
        Of each review `COLUMNS`: split (`train` or `test`), label (`pos` or `neg`), id in its folder, rating (stars)
        and text; in the order of `PARTS`, then by file name.

    Raises:
        ValueError: a review that is no plain file of UTF-8, is empty or too large; an archive that is too large, or has
            other than `EACH` reviews in each part.
        OSError, EOFError, tarfile.TarError, zlib.error: it is no whole archive.
    """
    found: dict[tuple[str, str], dict[str, list[str | int]]] = {part: {} for part in PARTS}
    for name, split, label, number, rating, text in _members(archive):
        found[split, label][name] = [split, label, int(number), int(rating), text]
    if any(len(reviews) != EACH for reviews in found.values()):
        counts = ", ".join(f"{split}/{label} {len(reviews):,}" for (split, label), reviews in found.items())
        raise ValueError(f"it has other than {EACH:,} reviews in each of its four folders: {counts}")
    return [review for reviews in found.values() for _, review in sorted(reviews.items())]


def _members(archive: Path) -> Iterator[tuple[str, ...]]:
    """Name, split, class, id, rating and text of each labelled review, in the order of the archive."""
    with gzip.open(archive) as unpacked, tarfile.open(fileobj=_Limited(unpacked), mode="r|") as tar:
        for member in tar:
            place = MEMBER.fullmatch(member.name)
            if not place:
                continue
            if not member.isreg() or not 0 < member.size <= REVIEW_BYTES:
                raise ValueError(f"{member.name} in it is no file of 1 to {REVIEW_BYTES:,} bytes")
            file = tar.extractfile(member)
            assert file is not None, "a regular file"
            yield member.name, *place.groups(), file.read().decode("utf-8")


class _Limited(io.BufferedIOBase):
    """A file that ends with an error where it is larger than any archive of reviews, such as one made to fill memory.

    Args:
        file: to read from.
    """

    def __init__(self, file: io.BufferedIOBase) -> None:
        self.file = file
        self.left = ARCHIVE_BYTES

    def read(self, size: int | None = -1) -> bytes:
        content = self.file.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise ValueError(f"it has more than {ARCHIVE_BYTES:,} bytes")
        return content
