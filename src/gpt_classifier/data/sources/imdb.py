"""50,000 film reviews of the Internet Movie Database, as Stanford published them."""

import importlib.util
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from gpt_classifier.atomic import held, replacing
from gpt_classifier.data.sources.messages import EXTRA, Messages, in_order
from gpt_classifier.errors import OptionError, UserError, expect_bool, expect_one_of, first_line
from gpt_classifier.tables import review_archive
from gpt_classifier.web import fetch_file, file_sha256

log = logging.getLogger(__name__)

ARCHIVE = "aclImdb_v1.tar.gz"
DOWNLOAD_BYTES, SECONDS = 100 * 2**20, 3600

LINE_BREAKS = {"raw": None, "space": " ", "newline": "\n"}
BREAK = re.compile(r"\s*<br\s*/?>\s*(?:<br\s*/?>\s*)*")


class Imdb:
    """The Large Movie Review Dataset (Maas et al., 2011): 25,000 reviews for training and as many for testing.

    Half of each are positive (7 to 10 stars of 10), half negative (1 to 4). The archive is read once, as a stream; its
    reviews are kept as one Parquet file in `cache_dir`.

    Args:
        path: a local copy of the archive, with or without its unlabelled reviews; `None` downloads it once.
        cache_dir: folder for the Parquet file.
        urls: places of the archive, tried in this order.
        sha256: of the downloaded archive.
        official_split: test on Stanford's 25,000 test reviews, and take validation from the others; `False` leaves all
            50,000 to be split.
        labels: `sentiment` for the classes neg and pos, or `rating` for 1, 2, 3, 4, 7, 8, 9 and 10 stars.
        line_breaks: what `<br />` becomes, several in a row one: `space` or `newline`; `raw` leaves it as published.

    Raises:
        UserError: on `prepare` or `load`, when the reviews can't be had or are not what was expected.
    """

    def __init__(
        self,
        path: str | None,
        cache_dir: str,
        urls: Sequence[str],
        sha256: str,
        official_split: bool = True,
        labels: Literal["sentiment", "rating"] = "sentiment",
        line_breaks: Literal["raw", "space", "newline"] = "raw",
    ) -> None:
        expect_bool("official_split", official_split)
        expect_one_of("labels", labels, ("sentiment", "rating"))
        expect_one_of("line_breaks", line_breaks, tuple(LINE_BREAKS))
        self.path = Path(path).expanduser() if path else None
        self.folder = Path(cache_dir).expanduser() / "imdb"
        self.urls = urls
        self.sha256 = sha256
        self.official_split = official_split
        self.labels = labels
        self.line_breaks = line_breaks

    def prepare(self) -> None:
        self._parquet()

    def load(self) -> Messages:
        reviews = self._reviews().astype({"text": object, "split": object, "label": object})
        label = reviews["rating"].astype(str) if self.labels == "rating" else reviews["label"]
        text, instead = reviews["text"], LINE_BREAKS[self.line_breaks]
        frame = pd.DataFrame(
            {
                "text": text if instead is None else text.map(lambda review: BREAK.sub(instead, review)),
                "label": label,
                "split": reviews["split"].where(self.official_split & (reviews["split"] == "test"), None),
                "row": range(len(reviews)),
                f"{EXTRA}id": reviews["id"],
                f"{EXTRA}rating": reviews["rating"],
            }
        )
        return Messages(frame, in_order(label.unique()), whole_numbers=self.labels == "rating")

    def _reviews(self) -> pd.DataFrame:
        kept = self._parquet()
        try:
            return pd.read_parquet(kept)
        except (OSError, ValueError):  # damaged in its middle
            kept.unlink(missing_ok=True)
            return pd.read_parquet(self._parquet())

    def _parquet(self) -> Path:
        """The reviews as a Parquet file, made where there is none yet; its name is that of an archive's content."""
        if importlib.util.find_spec("pyarrow") is None:
            raise UserError('data=imdb is kept as Parquet, which needs an extra: pip install -e ".[parquet]"')
        target = self.folder / f"reviews-{self._checksum()[:12]}.parquet"
        if _is_whole(target):  # before the lock, which a read-only folder does not allow
            return target
        with held(target):
            if not _is_whole(target):
                self._make(target)
        return target

    def _checksum(self) -> str:
        if self.path is None:
            return self.sha256
        try:
            return file_sha256(self.path)
        except OSError as error:
            raise self._unexpected(self.path, error) from error

    def _make(self, target: Path) -> None:
        archive = self.path or self._fetch()
        log.info("reading %s, once", archive)
        try:
            reviews = review_archive.read_archive(archive)
        except review_archive.DAMAGE as error:
            raise self._unexpected(archive, error) from error
        with replacing(target) as part:
            pd.DataFrame(reviews, columns=review_archive.COLUMNS).to_parquet(part, index=False)
        if self.path is None:
            archive.unlink()

    def _fetch(self) -> Path:
        try:
            return fetch_file(self.urls, self.sha256, self.folder / ARCHIVE, DOWNLOAD_BYTES, SECONDS)
        except UserError as error:
            raise OptionError(
                "path",
                "Stanford's film reviews, which are downloaded once",
                "null, and they can't be had",
                f"{error} Set {{field}}= to a copy of {ARCHIVE}.",
            ) from error

    def _unexpected(self, archive: Path, error: BaseException) -> OptionError:
        return OptionError(
            "path",
            f"Stanford's archive {ARCHIVE} with {len(review_archive.PARTS) * review_archive.EACH:,} labelled reviews",
            f"{archive}: {first_line(error)}",
            "Set {field}= to a whole copy of it, not unpacked, or leave it out to download it.",
        )


def _is_whole(target: Path) -> bool:
    """Whether there is a Parquet file of all reviews, as far as its end tells, which a broken one lacks."""
    import pyarrow.parquet

    try:
        found = pyarrow.parquet.read_metadata(target)
    except (OSError, pyarrow.ArrowException):
        return False
    expected = len(review_archive.PARTS) * review_archive.EACH
    return found.num_rows == expected and found.schema.names == review_archive.COLUMNS
