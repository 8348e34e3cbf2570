"""Where messages come from.

A source is loaded once into `Messages`: a frame with a text and a class name a row, and the order of the classes.
"""

import csv
import io
import logging
import math
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd

from gpt_classifier import csv_files
from gpt_classifier.data.download import fetch_member, read_member, sha256
from gpt_classifier.errors import OptionError, UserError, expect_one_of

log = logging.getLogger(__name__)

Quoting = Literal["none", "minimal"]
QUOTING: dict[str, Literal[0, 3]] = {"none": csv.QUOTE_NONE, "minimal": csv.QUOTE_MINIMAL}
MISSING_LABELS = ("", "nan")  # what programs write for a missing one


@dataclass(frozen=True)
class Messages:
    """What a source holds.

    Args:
        frame: columns `text` and `label` (both `str`, neither empty); `split`: `val` or `test` for rows that
            the source itself assigns, `None` for those that are yet to be split; and `row`, the number of the row in
            the source, from 0, gaps included (counted where it is missing). Where the source has them also `group`
            (messages that belong together), `time` (numbers or dates) and `weight` (in the training loss).
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
        frame = _parse(io.BytesIO(content), path, "\t", self.quoting, names=["label", "text"])
        return _messages(frame, path, class_names=["ham", "spam"])

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
        group_column: its column of what belongs together, such as a customer, for `split=grouped`; `None` for none.
        time_column: its column of numbers, dates or ISO 8601 strings, for `split=time`; `None` for none.

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
        group_column: str | None = None,
        time_column: str | None = None,
    ) -> None:
        if path is None:
            raise OptionError("path", "a file of texts and labels", path, "Set {field}=FILE.")
        _check_quoting(quoting)
        if text_column == label_column:
            raise OptionError("label_column", "another column than that of texts", repr(label_column))
        self.paths = {None: path, "val": val_path, "test": test_path}
        columns = {"text": text_column, "label": label_column, "group": group_column, "time": time_column}
        self.columns = {role: column for role, column in columns.items() if column is not None}
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
                raise OptionError(
                    f"{split}_path",
                    f"a file with the labels of the training file ({', '.join(class_names[:10])})",
                    f"{self.paths[split]}, where {unknown[0]!r} is a label too",
                )
        return Messages(pd.concat(parts.values(), ignore_index=True), class_names)

    def _load_file(self, path: Path, split: str | None) -> pd.DataFrame:
        option = f"{split}_path" if split else "path"
        found = self._read_file(path, option)
        for role, column in self.columns.items():
            if column not in found.columns:
                raise OptionError(
                    f"{role}_column",
                    f"a column of {path} ({', '.join(map(str, found.columns))})",
                    repr(column),
                    "Set {field} to one of these.",
                )
        frame = pd.DataFrame(
            {
                "label": found[self.columns["label"]].map(_as_name),
                "text": found[self.columns["text"]].map(_as_text),
            }
        )
        frame = _messages(frame, path, drop_incomplete=self.drop_incomplete, option=option).frame.assign(split=split)
        return self._with_order(frame, found, path)

    def _with_order(self, frame: pd.DataFrame, found: pd.DataFrame, path: Path) -> pd.DataFrame:
        """Messages with their groups and times, as far as there are columns of them."""
        if "group" in self.columns:
            groups = found[self.columns["group"]].map(_as_name)
            frame["group"] = groups.iloc[frame["row"]].to_numpy()
            if (frame["group"] == "").any():
                raise OptionError(
                    "group_column",
                    "a column with a group in every row",
                    f"{self.columns['group']!r}, which is empty in data row "
                    f"{frame['row'][frame['group'] == ''].iloc[0] + 1} of {path}",
                )
        if "time" in self.columns:
            times = found[self.columns["time"]].iloc[frame["row"]].reset_index(drop=True)
            parsed = _as_times(times)
            if parsed.isna().any():
                place = int(parsed.isna().to_numpy().argmax())
                raise OptionError(
                    "time_column",
                    "a column of numbers, dates or times as ISO 8601 writes them (2024-05-31 or 2024-05-31T18:30:00)",
                    f"{self.columns['time']!r}, which has {_as_text(times[place])!r} in data row "
                    f"{frame['row'][place] + 1} of {path}",
                )
            frame["time"] = parsed
        return frame

    def _read_file(self, path: Path, option: str) -> pd.DataFrame:
        if not path.is_file():
            raise OptionError(option, "a file of texts and labels", f"{path}, and there is no file {path}")
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
                    raise OptionError(option, "a file with one JSON object a line", f"{path}: {error}") from error
            case ".parquet":
                return _read_parquet(path, option)
            case ending:
                raise OptionError(
                    option,
                    "a file ending in .csv, .tsv, .txt, .jsonl, .ndjson or .parquet",
                    f"{path}, which has {f'the ending {ending}' if ending else 'no ending'}",
                    "Rename the file by what it holds; {group}separator sets another separator than a comma (.csv) or "
                    "a tab (.tsv, .txt).",
                )


class Texts:
    """Texts and labels in memory, such as those that a Python program trains on.

    Args:
        texts: as many `str` as there are messages, none empty.
        labels: a class for each: strings or whole numbers.
        weights: of each message in the training loss, at least 0; `None` for equal ones.
        groups: what each belongs to, such as a customer, for `split=grouped`; `None` for none.

    Raises:
        OptionError: a value or a number of values is not as expected.
    """

    def __init__(
        self,
        texts: Sequence[str],
        labels: Sequence[Any],
        weights: Sequence[float] | None = None,
        groups: Sequence[Any] | None = None,
    ) -> None:
        if isinstance(texts, str):
            raise OptionError("texts", "a sequence of texts", "a single str")
        frame = pd.DataFrame({"text": pd.Series(list(texts), dtype=object)})
        if frame.empty:
            raise OptionError("texts", "at least one text", "an empty sequence")
        for place, text in enumerate(frame["text"]):
            if not isinstance(text, str) or not text.strip():
                raise OptionError("texts", "str that are not empty", f"{text!r} in place {place}")
        columns = {"label": labels, "weight": weights, "group": groups}
        for (name, values), option in zip(columns.items(), ("labels", "weights", "groups"), strict=True):
            if values is not None:
                frame[name] = _one_for_each(option, values, len(frame))
        frame["label"] = frame["label"].map(_as_name)
        if (frame["label"] == "").any():
            raise OptionError("labels", "labels that are not empty", f"'' in place {(frame['label'] == '').argmax()}")
        if weights is not None:
            frame["weight"] = _as_weights(frame["weight"])
        self.frame = frame.assign(split=None, row=np.arange(len(frame)))

    def prepare(self) -> None:
        pass

    def load(self) -> Messages:
        return Messages(self.frame, _in_order(self.frame["label"].unique()))


def _one_for_each(option: str, values: Sequence[Any], number: int) -> pd.Series:
    column = pd.Series(list(values), dtype=object)
    if len(column) != number:
        raise OptionError(option, f"as many as there are texts, {number}", f"{len(column)} values")
    if column.isna().any():
        place = int(column.isna().to_numpy().argmax())
        raise OptionError(option, "a value for each text", f"{column[place]!r} in place {place}")
    return column


def _as_weights(weights: pd.Series) -> pd.Series:
    try:
        numbers = weights.astype(float)
    except (TypeError, ValueError) as error:
        raise OptionError("weights", "numbers of at least 0", error) from error
    wrong = ~numbers.between(0, math.inf, inclusive="left")
    if wrong.any():
        place = int(wrong.to_numpy().argmax())
        raise OptionError("weights", "numbers of at least 0", f"{weights[place]!r} in place {place}")
    return numbers


def _check_quoting(quoting: str) -> None:
    expect_one_of("quoting", quoting, tuple(QUOTING))


def _refuse_stray_quotes(path: Path, separator: str, encoding: str, option: str) -> None:
    """A quotation mark that begins a text but does not quote it would swallow the rows up to the next one."""
    try:
        with path.open(encoding=_with_mark(encoding), newline="") as file:
            reader = csv.reader(file, delimiter=separator, strict=True)
            for _ in csv_files.rows(reader, longest_field=2**31 - 1):
                pass
    except (UnicodeError, LookupError):
        return  # told when the table is read
    except csv.Error as error:
        raise OptionError(
            option,
            "a file where quotation marks quote whole fields",
            f"{path}, which has a quotation mark that does not quote a whole field, before line {reader.line_num} "
            f"({error})",
            "Set {group}quoting=none if its quotation marks are text, or fix the file.",
        ) from error
    except TypeError as error:
        raise OptionError("separator", "one character", repr(separator)) from error


def _read_parquet(path: Path, option: str) -> pd.DataFrame:
    try:
        from pyarrow import ArrowException
    except ImportError as error:
        raise UserError('Reading Parquet needs the extra of that name: pip install -e ".[parquet]"') from error
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError, ArrowException) as error:
        raise OptionError(option, "a Parquet file", f"{path}: {error}") from error


def _parse(
    file: os.PathLike | io.BytesIO,
    path: Path,
    separator: str,
    quoting: str,
    names: list[str] | None = None,
    option: str = "path",
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
        raise OptionError(
            option,
            f"a table with columns separated by {separator!r}",
            f"{path}: {str(error).strip()}",
            "" if names else "{group}separator and {group}quoting (none, minimal) say how it is written.",
        ) from error


def _with_mark(encoding: str) -> str:
    """A byte order mark is not part of the text."""
    return "utf-8-sig" if encoding == "utf-8" else encoding


def _encoding_error(path: Path, encoding: str, error: Exception) -> UserError:
    return OptionError(
        "encoding",
        f"the encoding of {path}",
        f"{encoding}: {error}",
        "Save the file as UTF-8, or, for a table of your own, set {field} to what it is, often latin-1, cp1252 or "
        "utf-16.",
    )


def _as_text(value: object) -> str:
    return "" if pd.isna(value) else str(value)  # type: ignore[call-overload]


def _as_name(value: object) -> str:
    """A label as the class name that a checkpoint keeps: the numbers 4 and 4.0 are '4'."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return _as_text(value).strip()


def _as_times(values: pd.Series) -> pd.Series:
    """Numbers, or else dates and times in UTC; missing where a value is neither."""
    if not pd.api.types.is_datetime64_any_dtype(values):
        numbers = pd.to_numeric(values, errors="coerce")
        if numbers.notna().all():
            return numbers
    return pd.to_datetime(values, format="ISO8601", utc=True, errors="coerce")


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
    option: str = "path",
) -> Messages:
    """Checks that no row lacks its text or its label, and that every label is a known one; numbers the rows."""
    if frame.empty:
        raise OptionError(option, "a file with at least one text and its label", f"{path}, which has no rows")
    frame = frame.fillna("").assign(row=np.arange(len(frame)))
    incomplete = {
        "an empty text": frame["text"].str.strip() == "",
        "no label": frame["label"].str.lower().isin(MISSING_LABELS),
    }
    for what, rows in incomplete.items():
        if drop_incomplete and rows.any():
            log.warning("%s: dropped %d rows with %s (drop_incomplete)", path, rows.sum(), what)
        elif rows.any():
            raise OptionError(
                option,
                "a file with a text and a label in every row",
                f"{path}, where {rows.sum()} of {len(frame)} rows have {what}, the first in data row "
                f"{int(rows.to_numpy().argmax()) + 1}",
                "Fix the file, or, for a table of your own, set {group}drop_incomplete=true to leave such rows out.",
            )
    frame = frame[~incomplete["an empty text"] & ~incomplete["no label"]].reset_index(drop=True)
    found = _in_order(frame["label"].unique())
    if class_names and not set(found) <= set(class_names):
        raise OptionError(
            "path",
            f"a file with the labels {', '.join(class_names)}",
            f"{path}, which has {', '.join(found[:5])}",
            "Texts and labels of your own are a table, such as a CSV file.",
        )
    return Messages(frame.assign(split=None), class_names or found, note)
