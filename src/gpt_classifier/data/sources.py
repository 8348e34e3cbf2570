"""Where messages come from.

A source is loaded once into `Messages`: a frame with a text and a class name a row, and the order of the classes.
"""

import csv
import io
import logging
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal, Protocol

import pandas as pd

from gpt_classifier.data.download import fetch_member, read_member, sha256
from gpt_classifier.errors import UserError

log = logging.getLogger(__name__)

Quoting = Literal["none", "minimal"]
QUOTING: dict[str, Literal[0, 3]] = {"none": csv.QUOTE_NONE, "minimal": csv.QUOTE_MINIMAL}
MISSING_LABELS = ("", "nan")  # what programs write for a missing one


@dataclass(frozen=True)
class Messages:
    """What a source holds.

    Args:
        frame: columns `text` and `label` (both `str`, neither empty) and `split`: `val` or `test` for rows that
            the source itself assigns, `None` for those that are yet to be split.
        class_names: the labels, in the order of their ids.
        note: something that every report on this data must say; empty if nothing.
    """

    frame: pd.DataFrame
    class_names: list[str]
    note: str = ""


class Source(Protocol):
    def prepare(self) -> None:
        """Fetch what has to be fetched, once for all processes of a machine."""

    def load(self) -> Messages: ...


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
        _check_quoting(quoting)
        self.path = Path(path).expanduser() if path else None
        self.cached = Path(cache_dir).expanduser() / "sms_spam" / self.MEMBER
        self.urls = urls
        self.sha256 = sha256
        self.quoting = quoting

    def prepare(self) -> None:
        if self.path is None:
            fetch_member(self.urls, self.MEMBER, self.sha256, self.cached, self.MAX_BYTES)

    def load(self) -> Messages:
        path = self.path or self.cached
        content = self._read(path)
        if sha256(content) != self.sha256:
            log.warning("%s is not the published SMS Spam Collection: its sha256 differs", path)
        frame = _parse(io.BytesIO(content), path, "\t", self.quoting, names=["label", "text"])
        return _messages(frame, path, class_names=["ham", "spam"])

    def _read(self, path: Path) -> bytes:
        try:
            with path.open("rb") as file:
                zipped = file.read(2) == b"PK"
            return read_member(path, self.MEMBER, self.MAX_BYTES) if zipped else path.read_bytes()
        except (OSError, ValueError) as error:
            raise UserError(
                f"data.path: expected the SMS Spam Collection's zip or the file {self.MEMBER} inside it at "
                f"{path}, but: {error}. Set data.path= to either, or leave it out to download it."
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
        frame = _parse(io.BytesIO(rows.encode()), path, "\t", "none", names=["label", "text"])
        return _messages(frame, path, class_names=["ham", "spam"], note=self.NOTE)


class Table:
    """Texts and labels in a CSV, TSV, JSONL or Parquet file, told apart by the file's ending.

    Args:
        path: the file; split into train, validation and test as far as those are not given.
        text_column: its column of texts.
        label_column: its column of labels, strings or whole numbers, any number of classes.
        val_path: a file of the same form with the validation set, taken as it is.
        test_path: a file of the same form with the test set, taken as it is.
        separator: between the columns of a text file; `None` for a comma, or a tab in a `.tsv` file.
        encoding: of a text file.
        quoting: `minimal` understands quoted fields, `none` takes quotation marks for text.
        drop_incomplete: leave out rows with an empty text or no label instead of refusing them.

    Raises:
        UserError: on `load`, when a file, a column or a value is not as expected.
    """

    def __init__(
        self,
        path: str | None,
        text_column: str,
        label_column: str,
        val_path: str | None = None,
        test_path: str | None = None,
        separator: str | None = None,
        encoding: str = "utf-8",
        quoting: Quoting = "minimal",
        drop_incomplete: bool = False,
    ) -> None:
        if path is None:
            raise UserError("data.path: data=csv needs a file of texts and labels. Set data.path=FILE.")
        _check_quoting(quoting)
        if text_column == label_column:
            raise UserError(
                f"data.label_column: it is {label_column!r}, the column of texts. Set it to that of labels."
            )
        self.paths = {None: path, "val": val_path, "test": test_path}
        self.columns = {"text": text_column, "label": label_column}
        self.separator = separator
        self.encoding = encoding
        self.quoting = quoting
        self.drop_incomplete = drop_incomplete

    def prepare(self) -> None:
        pass

    def load(self) -> Messages:
        parts = {split: self._load_file(Path(path).expanduser(), split) for split, path in self.paths.items() if path}
        class_names = _in_order(parts[None]["label"].unique())
        for split, part in parts.items():
            unknown = sorted(set(part["label"]) - set(class_names))
            if unknown:
                raise UserError(
                    f"data.{split}_path: its label {unknown[0]!r} does not occur in the training file; "
                    f"that has {', '.join(class_names[:10])}. Set data.{split}_path to a file with these labels."
                )
        return Messages(pd.concat(parts.values(), ignore_index=True), class_names)

    def _load_file(self, path: Path, split: str | None) -> pd.DataFrame:
        option = f"data.{split}_path" if split else "data.path"
        frame = self._read_file(path, option)
        for role, column in self.columns.items():
            if column not in frame.columns:
                raise UserError(
                    f"data.{role}_column: no column {column!r} in {path}; it has: "
                    f"{', '.join(map(str, frame.columns))}. Set data.{role}_column to one of these."
                )
        frame = pd.DataFrame(
            {
                "label": frame[self.columns["label"]].map(_as_name),
                "text": frame[self.columns["text"]].map(_as_text),
            }
        )
        return _messages(frame, path, drop_incomplete=self.drop_incomplete, option=option).frame.assign(split=split)

    def _read_file(self, path: Path, option: str) -> pd.DataFrame:
        if not path.is_file():
            raise UserError(f"{option}: expected a file of texts and labels, but there is no file {path}.")
        match path.suffix.lower():
            case ".csv" | ".tsv" | ".txt" as ending:
                separator = self.separator or ("," if ending == ".csv" else "\t")
                if self.quoting == "minimal":
                    _refuse_stray_quotes(path, separator, self.encoding, option)
                return _parse(path, path, separator, self.quoting, option=option, encoding=self.encoding)
            case ".jsonl" | ".ndjson":
                try:
                    return pd.read_json(path, lines=True, dtype=False, encoding=_with_mark(self.encoding))
                except (UnicodeError, LookupError) as error:
                    raise _encoding_error(path, self.encoding, error) from error
                except ValueError as error:
                    raise UserError(f"{option}: expected one JSON object a line in {path}, but: {error}.") from error
            case ".parquet":
                return _read_parquet(path, option)
            case ending:
                raise UserError(
                    f"{option}: expected a file ending in .csv, .tsv, .txt, .jsonl, .ndjson or .parquet, found "
                    f"{ending or 'no ending'} in {path}. Rename the file by what it holds; data.separator sets "
                    f"another separator than a comma (.csv) or a tab (.tsv, .txt)."
                )


def _check_quoting(quoting: str) -> None:
    if quoting not in QUOTING:
        raise UserError(f"data.quoting: expected none or minimal, but it is {quoting}.")


def _refuse_stray_quotes(path: Path, separator: str, encoding: str, option: str) -> None:
    """A quotation mark that begins a text but does not quote it would swallow the rows up to the next one."""
    csv.field_size_limit(2**31 - 1)
    try:
        with path.open(encoding=_with_mark(encoding), newline="") as file:
            rows = csv.reader(file, delimiter=separator, strict=True)
            for _ in rows:
                pass
    except (UnicodeError, LookupError):
        return  # told when the table is read
    except csv.Error as error:
        raise UserError(
            f"{option}: {path} has a quotation mark that does not quote a whole field, before line {rows.line_num} "
            f"({error}). Set data.quoting=none if its quotation marks are text, or mend the file."
        ) from error
    except TypeError as error:
        raise UserError(f"data.separator: expected one character, but it is {separator!r}.") from error


def _read_parquet(path: Path, option: str) -> pd.DataFrame:
    try:
        from pyarrow import ArrowException
    except ImportError as error:
        raise UserError('Reading Parquet needs the extra of that name: pip install -e ".[parquet]"') from error
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError, ArrowException) as error:
        raise UserError(f"{option}: {path} can't be read as a Parquet file: {error}.") from error


def _parse(
    file: os.PathLike | io.BytesIO,
    path: Path,
    separator: str,
    quoting: str,
    names: list[str] | None = None,
    option: str = "data.path",
    encoding: str = "utf-8",
) -> pd.DataFrame:
    """A text table in which every field stays the text that it is; with `names` it has no header."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a first row with too many fields
            return pd.read_csv(
                file,
                sep=separator,
                quoting=QUOTING[quoting],
                names=names,
                header=None if names else 0,
                index_col=False,
                dtype=str,
                keep_default_na=False,
                encoding=_with_mark(encoding),
            )
    except (UnicodeError, LookupError) as error:
        raise _encoding_error(path, encoding, error) from error
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        how = "" if names else " data.separator and data.quoting (none, minimal) say how it is written."
        raise UserError(
            f"{option}: {path} can't be read as a table with columns separated by {separator!r}: "
            f"{str(error).strip()}.{how}"
        ) from error


def _with_mark(encoding: str) -> str:
    """A byte order mark is not part of the text."""
    return "utf-8-sig" if encoding == "utf-8" else encoding


def _encoding_error(path: Path, encoding: str, error: Exception) -> UserError:
    return UserError(
        f"data.encoding: expected {path} to be encoded as {encoding}, but: {error}. With data=csv set data.encoding to "
        f"what it is, often latin-1, cp1252 or utf-16, or save the file as UTF-8."
    )


def _as_text(value: object) -> str:
    return "" if pd.isna(value) else str(value)  # type: ignore[call-overload]


def _as_name(value: object) -> str:
    """A label as the class name that a checkpoint keeps: the numbers 4 and 4.0 are '4'."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return _as_text(value).strip()


def _in_order(labels: Iterable[str]) -> list[str]:
    """Whole numbers by value, anything else by text."""
    try:
        return sorted(labels, key=int)
    except ValueError:
        return sorted(labels)


def _messages(
    frame: pd.DataFrame,
    path: Path,
    class_names: list[str] | None = None,
    note: str = "",
    drop_incomplete: bool = False,
    option: str = "data.path",
) -> Messages:
    """Checks that no row lacks its text or its label, and that every label is a known one."""
    if frame.empty:
        raise UserError(f"{option}: {path} has no rows; expected at least one text and its label.")
    frame = frame.fillna("")
    incomplete = {
        "an empty text": frame["text"].str.strip() == "",
        "no label": frame["label"].str.lower().isin(MISSING_LABELS),
    }
    for what, rows in incomplete.items():
        if drop_incomplete and rows.any():
            log.warning("%s: dropped %d rows with %s (data.drop_incomplete)", path, rows.sum(), what)
        elif rows.any():
            raise UserError(
                f"{option}: {rows.sum()} of {len(frame)} rows of {path} have {what}, the first in data row "
                f"{int(rows.to_numpy().argmax()) + 1}. Mend the file, or, with data=csv, set data.drop_incomplete=true "
                f"to leave such rows out."
            )
    frame = frame[~incomplete["an empty text"] & ~incomplete["no label"]].reset_index(drop=True)
    found = _in_order(frame["label"].unique())
    if class_names and not set(found) <= set(class_names):
        raise UserError(
            f"data.path: expected the labels {', '.join(class_names)} in {path}, found {', '.join(found[:5])}. "
            f"For texts and labels of your own set data=csv."
        )
    return Messages(frame.assign(split=None), class_names or found, note)
