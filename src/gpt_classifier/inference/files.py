"""Rows of a file, classified as they stream by: order and columns kept, memory bounded, output whole or not there."""

import codecs
import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from gpt_classifier import csv_files
from gpt_classifier.atomic import without_nan
from gpt_classifier.errors import UserError, first_line

WRITTEN = ("csv", "tsv", "jsonl", "txt")
READ = (*WRITTEN, "parquet")
LABEL, PROBABILITY, REASON = "predicted_label", "probability_", "reason"
LONGEST_FIELD = 10_000_000  # characters: more is an unclosed quotation mark
CHUNK_ROWS, CHUNK_CHARACTERS = 2048, 2_000_000
PARQUET_ROWS, PARQUET_BUFFER = 128, 2**20  # rows that are Python values at a time; bytes


@dataclass
class Row:
    """One row of the input.

    Args:
        fields: what it holds, by column.
        text: what is to be classified.
        reason: why it can't be, or an empty string.
        size: characters of the whole row.
    """

    fields: dict[str, Any]
    text: str
    reason: str = ""
    size: int = 0

    def __post_init__(self) -> None:
        if not self.reason:
            self.reason = why_not(self.text)


def why_not(text: str) -> str:
    """Why a text can't be classified, or an empty string."""
    if not text.strip():
        return "the text is empty"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "the text holds bytes or code points that are no characters of its encoding"
    return ""


@dataclass
class Count:
    """What became of the rows.

    Args:
        rows: all of them.
        skipped: how many had no text to classify, by reason.
    """

    rows: int = 0
    skipped: dict[str, int] = field(default_factory=dict)


def format_of(path: Path | None, given: str | None, option: str, known: Sequence[str]) -> str:
    """A file's format, one of those known, by its ending unless it is given.

    Raises:
        UserError: neither tells.
    """
    if given:
        return given
    ending = path.suffix.lstrip(".").lower() if path else "txt"
    if ending not in known:
        raise UserError(f"{option}: expected a file ending in .{', .'.join(known)}, but it is {path}.")
    return ending


@contextmanager
def opened(path: Path | None, encoding: str) -> Iterator[IO[str]]:
    """A file, or standard input where there is none; bytes that the encoding does not know are kept as they are.

    Raises:
        UserError: it can't be opened, or there is no such encoding.
    """
    try:
        name = codecs.lookup(encoding).name
    except LookupError as error:
        raise UserError(
            f"--encoding: expected a name that Python knows, such as utf-8, but it is {encoding}."
        ) from error
    source: Any = path.open("rb") if path else sys.stdin.buffer
    if name == "utf-8" and source.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise UserError(f"--encoding: {path or 'standard input'} begins like UTF-16. Set --encoding utf-16.")
    name = "utf-8-sig" if name == "utf-8" else name
    try:
        with io.TextIOWrapper(source, encoding=name, errors="surrogateescape", newline="") as text:
            yield text
    except UnicodeDecodeError as error:
        raise UserError(f"--encoding: {path or 'standard input'} is not in {encoding}: {error}.") from error


def read_rows(source: IO[str], kind: str, text_column: str, quoting: str) -> tuple[list[str], Iterator[Row]]:
    """The columns of a file and its rows, read as they are asked for.

    Args:
        source: opened with `newline=""`.
        kind: one of `WRITTEN`.
        text_column: the column with the texts.
        quoting: of CSV and TSV: `minimal`, or `none` where quotation marks are text.

    Raises:
        UserError: there is no such column, or the file can't be read on.
    """
    if kind == "txt":
        return ["text"], (Row({"text": line}, line, size=len(line)) for line in _lines(source))
    if kind == "jsonl":
        return [], (_json_row(line, text_column) for line in _lines(source))
    return _read_table(source, "\t" if kind == "tsv" else ",", text_column, quoting)


def _lines(source: IO[str]) -> Iterator[str]:
    number = 0
    try:
        while line := source.readline(LONGEST_FIELD):
            number += 1
            if len(line) == LONGEST_FIELD:
                raise UserError(f"--input: line {number} has more than {LONGEST_FIELD:,} characters.")
            yield line.rstrip("\r\n")
    except UnicodeDecodeError:
        raise
    except UnicodeError as error:  # UTF-16 that does not say which way round it is
        raise UserError(f"--encoding: {error}.") from error


def _json_row(line: str, text_column: str) -> Row:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Row({"line": line}, "", f"the line is not JSON: {first_line(error)}", len(line))
    if not isinstance(fields, dict):
        return Row({"line": fields}, "", "the line is not a JSON object", len(line))
    text = fields.get(text_column)
    if not isinstance(text, str):
        reason = f"{text_column} is not text" if text_column in fields else f"there is no {text_column}"
        return Row(fields, "", reason, len(line))
    return Row(fields, text, size=len(line))


def read_parquet(path: Path, text_column: str) -> tuple[list[str], Iterator[Row]]:
    """The columns of a Parquet file and its rows, as `read_rows` has them; what is no text is kept as a Python value.

    Raises:
        UserError: there is no such column, the file can't be read, or pyarrow is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UserError('Reading Parquet needs the extra of that name: pip install -e ".[parquet]"') from error
    damage = (OSError, ValueError, OverflowError, pyarrow.ArrowException)
    try:
        # a part of a column at a time, not all of a row group, which may be all of the file
        file = pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=PARQUET_BUFFER)
    except damage as error:
        raise UserError(f"--input: {path} can't be read as a Parquet file: {first_line(error)}") from error
    columns = file.schema_arrow.names
    _check_columns(columns, text_column, "Set --text-column to one of these.")

    def rows() -> Iterator[Row]:
        with file:
            batches = file.iter_batches(batch_size=PARQUET_ROWS)
            while True:
                try:
                    batch = next(batches).to_pylist()
                except StopIteration:
                    return
                except damage as error:
                    raise UserError(f"--input: {path} can't be read on: {first_line(error)}") from error
                for fields in batch:
                    text = fields[text_column]
                    reason = "" if text is None or isinstance(text, str) else f"{text_column} is not text"
                    yield Row(fields, "" if reason else text or "", reason, sum(map(len, map(str, fields.values()))))

    return columns, rows()


def _check_columns(columns: list[str], text_column: str, hint: str) -> None:
    if text_column not in columns:
        raise UserError(
            f"--text-column: no column {text_column!r}; the file has: {', '.join(columns[:20]) or 'nothing'}. {hint}"
        )
    if len(set(columns)) < len(columns):
        raise UserError("--input: the file names a column twice; each must have a name of its own.")


def _read_table(source: IO[str], separator: str, text_column: str, quoting: str) -> tuple[list[str], Iterator[Row]]:
    style: dict[str, Any] = {"quoting": csv.QUOTE_NONE} if quoting == "none" else {"strict": True}
    reader = csv.reader(source, delimiter=separator, **style)
    columns = next(_guarded(reader), [])
    _check_columns(columns, text_column, "Set --text-column to one of these, and --encoding if they look wrong.")
    place = columns.index(text_column)

    def rows() -> Iterator[Row]:
        for values in _guarded(reader):
            if not values and len(columns) > 1:
                continue  # an empty line between rows; of one column it is a row with an empty text
            values = values or [""]
            fields = dict(zip(columns, values + [""] * (len(columns) - len(values)), strict=False))
            reason = ""
            if len(values) <= place:
                reason = f"the row has {len(values)} fields and no {text_column}"
            elif len(values) > len(columns):
                reason = f"the row has {len(values)} fields, more than the header: {values[len(columns) :]}"
            yield Row(fields, fields[text_column], reason, sum(map(len, values)))

    return columns, rows()


def _guarded(reader: Any) -> Iterator[list[str]]:
    rows = csv_files.rows(reader, LONGEST_FIELD)
    while True:
        try:
            yield next(rows)
        except StopIteration:
            return
        except UnicodeDecodeError:
            raise
        except UnicodeError as error:  # UTF-16 that does not say which way round it is
            raise UserError(f"--encoding: {error}.") from error
        except csv.Error as error:
            raise UserError(
                f"--input: line {reader.line_num} can't be read ({error}). Is a quotation mark left open? "
                f"--quoting none takes them as text."
            ) from error


def classify(
    rows: Iterable[Row],
    predict_proba: Callable[[Sequence[str]], np.ndarray],
    writer: "Writer",
    progress: Callable[[int], Any] = lambda rows: None,
) -> Count:
    """Write each row with its probabilities, in the order that they come.

    Args:
        rows: of any number; a chunk of them is held at a time.
        predict_proba: `(N, C)` for N texts.
        writer: where to.
        progress: is told how many rows were written.
    """
    count = Count()
    for chunk in _chunks(rows):
        texts = [row.text for row in chunk if not row.reason]
        found = iter(predict_proba(texts)) if texts else iter(())
        for row in chunk:
            writer.write(row, None if row.reason else next(found))
            if row.reason:
                kind = row.reason.partition(":")[0]
                count.skipped[kind] = count.skipped.get(kind, 0) + 1
        count.rows += len(chunk)
        progress(len(chunk))
    return count


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    characters = 0
    for row in rows:
        chunk.append(row)
        characters += row.size
        if len(chunk) == CHUNK_ROWS or characters > CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


@contextmanager
def written(path: Path | None, encoding: str) -> Iterator[IO[str]]:
    """A file that appears when it is whole, or standard output."""
    if path is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # bytes that came in as they are go out so
            sys.stdout.reconfigure(encoding=encoding, errors="surrogateescape", newline="")
        yield sys.stdout
        return
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding=encoding, errors="surrogateescape", newline="") as target:
            yield target
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"--output: {path} can't be written: {error.strerror or error}.") from error
    except UnicodeEncodeError as error:
        raise UserError(f"--encoding: {path} can't be written in {encoding}: {error}.") from error
    finally:
        part.unlink(missing_ok=True)


class Writer:
    """Rows with what was predicted.

    Args:
        target: where to.
        kind: one of `WRITTEN`; `txt` is a line with label, probability and text.
        columns: of the input.
        class_names: C names.

    Raises:
        UserError: the input already has a column of the same name as one that is added.
    """

    def __init__(self, target: IO[str], kind: str, columns: Sequence[str], class_names: Sequence[str]) -> None:
        self.target = target
        self.kind = kind
        self.class_names = list(class_names)
        added = [LABEL, *(PROBABILITY + name for name in class_names), REASON]
        self.added = [LABEL, "probabilities", REASON] if kind == "jsonl" else added
        self._expect_free(columns)
        if kind in ("csv", "tsv"):
            style: dict[str, Any] = {"delimiter": "\t" if kind == "tsv" else ",", "lineterminator": "\n"}
            self.table = csv.DictWriter(target, [*columns, *added], **style)
            self.quoting_table = csv.DictWriter(target, [*columns, *added], quoting=csv.QUOTE_ALL, **style)
            self.table.writeheader()

    def _expect_free(self, columns: Iterable[str]) -> None:
        taken = [name for name in self.added if name in columns]
        if taken and self.kind != "txt":
            raise UserError(f"--input: it already has a column {taken[0]}, which would be overwritten. Rename it.")

    def write(self, row: Row, probabilities: np.ndarray | None) -> None:
        label = "" if probabilities is None else self.class_names[int(probabilities.argmax())]
        if self.kind == "txt":
            shown = row.reason if probabilities is None else f"{probabilities.max():.4f}"
            self.target.write(f"{label}\t{shown}\t{' '.join(row.text.split())}\n")
            return
        by_class = {} if probabilities is None else dict(zip(self.class_names, probabilities.tolist(), strict=True))
        if self.kind == "jsonl":
            self._expect_free(row.fields)
            added = {LABEL: label or None, "probabilities": by_class, REASON: row.reason or None}
            fields = without_nan({**row.fields, **added})
            line = json.dumps(fields, ensure_ascii=False, default=str)  # a Parquet file has dates, too
            if not line.isprintable() and why_not(line):  # lone surrogates can only be written escaped
                line = json.dumps(fields, default=str)
            self.target.write(line + "\n")
            return
        shown_by_class = {PROBABILITY + name: f"{part:.6f}" for name, part in by_class.items()}
        # a lone carriage return ends a row for readers, but is no reason to quote for Python's writer
        table = self.quoting_table if any("\r" in str(value) for value in row.fields.values()) else self.table
        table.writerow({**row.fields, LABEL: label, **shown_by_class, REASON: row.reason})
