"""Predictions beside the rows they are of, into a file that is whole or not there."""

import csv
import errno
import gzip
import io
import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import IO, Any

import numpy as np

from gpt_classifier.atomic import without_nan
from gpt_classifier.decisions.rule import Rule
from gpt_classifier.errors import OptionError, UserError, expect_number, printable
from gpt_classifier.inference.files import Row, as_arguments
from gpt_classifier.tables import reading
from gpt_classifier.tables.opening import text_encoding
from gpt_classifier.tables.texts import why_no_text

WRITTEN = ("csv", "tsv", "jsonl", "txt")

UNANSWERED = "not sure enough to answer"
"""The reason of a row whose label is left blank because of a promise."""

CHUNK_ROWS, CHUNK_CHARACTERS = 2048, 2_000_000

LABEL, CONFIDENCE, PROBABILITY, REASON = "predicted_label", "confidence", "probability_", "reason"
MOST_COLUMNS = 20  # classes up to which each has a column of its own unless asked
FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""Beginnings of a cell that a spreadsheet may run as a formula, full-width signs among them."""


def output_kind(path: Path) -> str:
    """How a file is written, by its ending.

    Raises:
        UserError: it is none of `WRITTEN`.
    """
    kind = reading.KINDS.get(reading.ending_of(path), "")
    if kind not in WRITTEN:
        endings = ", .".join(WRITTEN)
        raise UserError(f"--output: expected a file ending in .{endings}, perhaps with .gz, but it is {path}.")
    return kind


def target_kind(path: Path | None, kind: str, sources: Sequence[Path | None]) -> str:
    """How rows are written: by the ending of the file, or as they are read where there is none.

    Args:
        path: of the file; `None` is standard output.
        kind: how the input is read.
        sources: the files that it is read from.

    Raises:
        UserError: the ending does not tell, rows of JSON don't fit, or it is one of the sources.
    """
    target = {"json": "jsonl", "parquet": "csv", "xlsx": "csv"}.get(kind, kind)
    special = path is not None and is_special(path)  # such as /dev/stdout, without an ending
    if path and (path.suffix or not special):
        target = output_kind(path)
    if kind == "jsonl" and target != "jsonl":
        raise UserError("--output: rows of JSON can only be written as .jsonl, as each may have columns of its own.")
    if path and path.exists() and not special and any(source and path.samefile(source) for source in sources):
        raise UserError("--output: it is the input, which would be lost. Name another file.")
    return target


@dataclass(frozen=True)
class Shown:
    """What is told of a prediction beside its label.

    Args:
        top: how many labels, the most probable first, each with its probability.
        labels_only: nothing but the label, and why there is none.
        all_probabilities: of every class; `None` for up to `MOST_COLUMNS` classes.
        threshold: a class and the probability from which on it is predicted, and below which it is not, whatever the
            others have; `None` predicts the most probable class.
        rule: decides instead of that, and may leave the label blank; `None` for no rule.
    """

    top: int = 1
    labels_only: bool = False
    all_probabilities: bool | None = None
    threshold: tuple[str, float] | None = None
    rule: Rule | None = None


def threshold_of(given: str, class_names: Sequence[str]) -> tuple[str, float]:
    """What `--threshold CLASS=PROBABILITY` says.

    Raises:
        OptionError: there is no such class, or it is no probability.
    """
    name, _, written = given.rpartition("=")
    if name not in class_names:
        known = ", ".join(class_names[:10]) + (", …" if len(class_names) > 10 else "")
        raise OptionError("--threshold", f"CLASS=PROBABILITY with one of the classes {known}", given)
    try:
        number: float | str = float(written)
    except ValueError:
        number = written
    expect_number("--threshold", number, 0, 1)
    return name, float(number)


class Writer:
    """Rows with what was predicted.

    Args:
        target: where to.
        kind: one of `WRITTEN`; `txt` is a line with label, probability and text.
        columns: of the input.
        class_names: C names.
        spreadsheet_safe: of `csv` and `tsv`: begin each cell with an apostrophe that a spreadsheet would take for a
            formula, names of columns too.
        for_terminal: of `txt`: escape what a terminal would obey.
        shown: what is told of each prediction.
        whole_numbers: whether class names are written-out whole numbers, which `jsonl` has as numbers.

    Attributes:
        unanswered: how many rows got no label because of `shown.rule`.

    Raises:
        UserError: the input already has a column of the same name as one that is added.
    """

    def __init__(
        self,
        target: IO[str],
        kind: str,
        columns: Sequence[str],
        class_names: Sequence[str],
        spreadsheet_safe: bool = False,
        for_terminal: bool = False,
        shown: Shown = Shown(),
        whole_numbers: bool = False,
    ) -> None:
        self.target = target
        self.kind = kind
        self.columns = list(columns)
        self.safe = spreadsheet_safe
        self.for_terminal = for_terminal
        self.class_names = list(class_names)
        self.labels = list(map(int, class_names)) if whole_numbers else self.class_names
        self.labels_only = shown.labels_only
        self.top = min(shown.top, len(class_names))
        self.threshold = shown.threshold and (self.class_names.index(shown.threshold[0]), shown.threshold[1])
        self.rule = shown.rule
        self.unanswered = 0
        wanted = len(class_names) <= MOST_COLUMNS if shown.all_probabilities is None else shown.all_probabilities
        self.with_probabilities = wanted and not shown.labels_only
        self.added = [*self._told(None), REASON]
        self._expect_free(columns)
        if kind in ("csv", "tsv"):
            style: dict[str, Any] = {"delimiter": "\t" if kind == "tsv" else ",", "lineterminator": "\n"}
            self.table = csv.writer(target, **style)
            self.quoting_table = csv.writer(target, quoting=csv.QUOTE_ALL, **style)
            self._write_cells([*columns, *self.added])

    def _expect_free(self, columns: Iterable[str]) -> None:
        taken = [name for name in self.added if name in columns]
        if taken and self.kind != "txt":
            raise UserError(f"--input: it already has a column {taken[0]}, which would be overwritten. Rename it.")

    def _ranked(self, probabilities: np.ndarray) -> np.ndarray:
        """The classes that are told, the predicted one first."""
        order = np.argsort(-probabilities, kind="stable")
        predicted = order[0]
        if self.threshold:
            i, least = self.threshold
            predicted = i if probabilities[i] >= least else order[order != i][0]
        elif self.rule:
            predicted = self.rule.decided(probabilities[None])[0]
        return np.concatenate([[predicted], order[order != predicted]])[: self.top]

    def _answers(self, probabilities: np.ndarray | None) -> bool:
        return self.rule is None or probabilities is None or bool(self.rule.answered(probabilities[None])[0])

    def _told(self, probabilities: np.ndarray | None) -> dict[str, Any]:
        """What is added to a row, by column; `None` for all of it where there is no prediction."""
        order: list[int | None] = [None] * self.top
        if probabilities is not None:
            order = list(self._ranked(probabilities))
        told: dict[str, Any] = {}
        answers = self._answers(probabilities)
        for place, i in enumerate(order, 1):
            ending = f"_{place}" if place > 1 else ""
            told[LABEL + ending] = None if i is None or (place == 1 and not answers) else self.labels[i]
            if not self.labels_only:
                told[CONFIDENCE + ending] = None if probabilities is None else float(probabilities[i])
        if self.with_probabilities and self.kind == "jsonl":
            told["probabilities"] = {}
            if probabilities is not None:
                told["probabilities"] = dict(zip(self.class_names, probabilities.tolist(), strict=True))
        elif self.with_probabilities:
            values = [None] * len(self.class_names) if probabilities is None else probabilities.tolist()
            told |= {PROBABILITY + name: value for name, value in zip(self.class_names, values, strict=True)}
        return told

    def write(self, row: Row, probabilities: np.ndarray | None) -> None:
        reason = row.reason
        if not self._answers(probabilities):
            self.unanswered += 1
            reason = UNANSWERED
        if self.kind == "txt":
            self._write_line(row, probabilities)
            return
        told = self._told(probabilities)
        if self.kind == "jsonl":
            self._expect_free(row.fields)
            fields = without_nan({**dict.fromkeys(self.columns, ""), **row.fields, **told, REASON: reason or None})
            line = json.dumps(fields, ensure_ascii=False, default=str)  # a Parquet file has dates, too
            if not line.isprintable() and why_no_text(line):  # lone surrogates can only be written escaped
                line = json.dumps(fields, default=str)
            self.target.write(line + "\n")
            return
        shown = [
            f"{value:.6f}" if isinstance(value, float) else "" if value is None else value for value in told.values()
        ]
        self._write_cells([*(row.fields.get(column, "") for column in self.columns), *shown, reason])

    def _write_line(self, row: Row, probabilities: np.ndarray | None) -> None:
        if probabilities is None:
            parts = ["", row.reason]
        else:
            order = self._ranked(probabilities)
            parts = [part for i in order for part in (self.class_names[i], f"{probabilities[i]:.4f}")]
            parts[0] = parts[0] if self._answers(probabilities) else f"({UNANSWERED})"
            parts = parts[::2] if self.labels_only else parts
        if not self.labels_only:
            parts.append(" ".join(row.text.split()))
        line = "\t".join(parts)
        self.target.write((printable(line) if self.for_terminal else line) + "\n")

    def _write_cells(self, cells: list[Any]) -> None:
        if self.safe:
            cells = [f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell for cell in cells]
        # a lone carriage return ends a row for readers, but is no reason to quote for Python's writer
        table = self.quoting_table if any(isinstance(cell, str) and "\r" in cell for cell in cells) else self.table
        table.writerow(cells)


@dataclass
class Count:
    """What became of the rows.

    Args:
        rows: all of them.
        skipped: how many had no text to classify, by reason.
    """

    rows: int = 0
    skipped: dict[str, int] = field(default_factory=dict)


def classify(
    rows: Iterable[Row],
    predict_proba: Callable[[Sequence[str]], np.ndarray],
    writer: Writer,
    progress: Callable[[int], Any] = lambda rows: None,
    why_not: Callable[[str], str] = lambda text: "",
) -> Count:
    """Write each row with its probabilities, in the order that they come.

    Args:
        rows: of any number; a chunk of them is held at a time.
        predict_proba: `(N, C)` for N texts.
        writer: where to.
        progress: is told how many rows were written.
        why_not: why a text can't be classified, or an empty string.
    """
    count = Count()
    for chunk in _chunks(rows):
        for row in chunk:
            row.reason = row.reason or why_not(row.text)
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
    """A file that appears when it is whole, or standard output.

    A symbolic link stays one: what it points to is replaced. What is no regular file, such as a FIFO or `/dev/null`, is
    written to as it is. What runs that were killed left beside the file is removed.

    Args:
        path: of the file; `None` is standard output.
        encoding: bytes that came in as they are go out so.

    Raises:
        UserError: it can't be written, or there is no such encoding.
    """
    with as_arguments():
        text_encoding(encoding)
    if path is None or _is_standard_output(path):
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding=encoding, errors="surrogateescape", newline="")
        yield sys.stdout
        return
    part = None
    try:
        if is_special(path):
            with _opened_to_write(path, path, encoding) as target:
                yield target
            return
        whole = Path(os.path.realpath(path))
        whole.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale_parts(whole)
        part = whole.with_name(f"{whole.name}.{os.getpid()}.part")
        with _opened_to_write(part, path, encoding) as target:
            yield target
        os.replace(part, whole)
    except OSError as error:
        raise UserError(f"--output: {path} can't be written: {error.strerror or error}.") from error
    except UnicodeEncodeError as error:
        raise UserError(f"--encoding: {path} can't be written in {encoding}: {error}.") from error
    finally:
        if part:
            part.unlink(missing_ok=True)


def _opened_to_write(part: Path, path: Path, encoding: str) -> IO[str]:
    """A file of text that is going to be called `path`, compressed where that ends in `.gz`."""
    if path.suffix.lower() == ".gz":
        return gzip.open(part, "wt", encoding=encoding, errors="surrogateescape", newline="")
    return part.open("w", encoding=encoding, errors="surrogateescape", newline="")


def is_special(path: Path) -> bool:
    """Whether there is something that is not to be replaced: a FIFO, a terminal, `/dev/null`, `/dev/stdout`."""
    try:
        return _is_standard_output(path) or not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _is_standard_output(path: Path) -> bool:
    """Whether a path is where standard output goes anyway, as `/dev/stdout` is."""
    try:
        return os.path.samestat(path.stat(), os.fstat(1))
    except OSError:
        return False


def _remove_stale_parts(whole: Path) -> None:
    """Remove unfinished files of the same output, whose processes are no more."""
    for part in whole.parent.glob(f"{escape(whole.name)}.*.part"):
        number = part.name.removeprefix(f"{whole.name}.").removesuffix(".part")
        if number.isdecimal() and os.name == "posix" and not _is_alive(int(number)):
            part.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 only asks
    except OverflowError:
        return False
    except OSError as error:
        return error.errno != errno.ESRCH
    return True
