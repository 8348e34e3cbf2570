"""The SMS Spam Collection, and synthetic messages in its place."""

import csv
import io
import logging
import warnings
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal

import pandas as pd

from gpt_classifier.data.download import fetch_member, read_member, sha256
from gpt_classifier.data.sources.messages import Messages
from gpt_classifier.errors import OptionError, UserError
from gpt_classifier.tables.labelled import Quoting, check_quoting
from gpt_classifier.tables.rows import Row
from gpt_classifier.tables.usable import find_usable

log = logging.getLogger(__name__)

QUOTING: dict[str, Literal[0, 3]] = {"none": csv.QUOTE_NONE, "minimal": csv.QUOTE_MINIMAL}
COLUMNS = ["label", "text"]
CLASSES = ["ham", "spam"]


class SmsSpam:
    """The UCI SMS Spam Collection (Almeida, Gómez Hidalgo, Yamakami, 2011; UCI dataset 228).

    5,574 messages: 4,827 ham, 747 spam; tab-separated, without quoting.

    Args:
        path: a local copy, zipped or not; `None` downloads it once into `cache_dir`.
        cache_dir: folder for the downloaded file.
        urls: places of the zip archive, tried in this order.
        sha256: of the file inside the archive.
        quoting: `none` parses the file as what it is. `minimal` is pandas' default, which takes a stray
            quotation mark for the start of a quoted field and swallows two rows (5,572 messages, 4,825 ham),
            as the book's chapter does.

    Raises:
        UserError: on `prepare` or `load`, when the file can't be had or is not what was expected.
    """

    MEMBER = "SMSSpamCollection"
    MAX_BYTES = 16 * 2**20

    def __init__(
        self,
        path: str | None,
        cache_dir: str,
        urls: Sequence[str],
        sha256: str,
        quoting: Quoting = "none",
    ) -> None:
        check_quoting(quoting)
        self.path = Path(path).expanduser() if path else None
        self.cached = Path(cache_dir).expanduser() / "sms_spam" / self.MEMBER
        self.urls = urls
        self.sha256 = sha256
        self.quoting = quoting

    def prepare(self) -> None:
        if self.path is None:
            self._fetch()

    def _fetch(self) -> None:
        try:
            fetch_member(self.urls, self.MEMBER, self.sha256, self.cached, self.MAX_BYTES)
        except UserError as error:
            raise OptionError(
                "path",
                "the SMS Spam Collection, which is downloaded once",
                self.path,
                f"{error} Set {{field}}= to a copy of the archive or of the file inside it. The bundled sample "
                f"messages need no network.",
            ) from error

    def load(self) -> Messages:
        path = self.path or self.cached
        content = self._read(path)
        if sha256(content) != self.sha256:
            log.warning("%s is not the published SMS Spam Collection: its sha256 differs", path)
        frame = _parse(content, path, self.quoting)
        return Messages(frame, list(CLASSES))

    def _read(self, path: Path) -> bytes:
        try:
            with path.open("rb") as file:
                zipped = file.read(2) == b"PK"
            return read_member(path, self.MEMBER, self.MAX_BYTES) if zipped else path.read_bytes()
        except (OSError, ValueError) as error:
            raise OptionError(
                "path",
                f"the SMS Spam Collection's zip or the file {self.MEMBER} inside it",
                f"{path}: {error}",
                "Set {field}= to either, or leave it out to download it.",
            ) from error


class SampleSms:
    """Synthetic messages that come with the package, for trying things without a network."""

    NOTE = "These messages are synthetic: accuracy on them means nothing for real ones."

    def prepare(self) -> None:
        pass

    def load(self) -> Messages:
        path = Path("sample_sms.tsv")
        text = files("gpt_classifier.assets").joinpath(path.name).read_text(encoding="utf-8")
        rows = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("# "))
        frame = _parse(rows.encode(), path, "none")
        return Messages(frame, list(CLASSES), self.NOTE)


def _parse(content: bytes, path: Path, quoting: str) -> pd.DataFrame:
    """The collection as pandas reads it, which the book's chapter does: a table without a header, all of it text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a first row with too many fields
            table = pd.read_csv(
                io.BytesIO(content),
                sep="\t",
                quoting=QUOTING[quoting],
                names=COLUMNS,
                header=None,
                index_col=False,
                dtype=str,
                keep_default_na=False,
                encoding="utf-8-sig",
            )
    except (UnicodeError, pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        raise OptionError("path", "the SMS Spam Collection in UTF-8", f"{path}: {str(error).strip()}") from error
    rows = (Row(dict(zip(COLUMNS, row, strict=True))) for row in table.fillna("").itertuples(index=False))
    found = find_usable(rows, {name: name for name in COLUMNS}).without_unusable(str(path), "path", drop=False)
    unknown = sorted(set(found.columns["label"]) - set(CLASSES))
    if unknown:
        raise OptionError(
            "path",
            f"a file with the labels {', '.join(CLASSES)}",
            f"{path}, which has {', '.join(unknown[:5])}",
            "Texts and labels of your own are a table, such as a CSV file.",
        )
    return pd.DataFrame(found.columns).assign(row=found.numbers, split=None)
