"""What a labelling session leaves: tables of texts and labels, and a trained classifier with a page of evidence."""

import csv
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from gpt_classifier.atomic import write_table
from gpt_classifier.errors import OptionError, UserError
from gpt_classifier.labelling.session import Session


def expect_csv(path: Path) -> Path:
    """The place of the table of labels, absolute.

    Raises:
        OptionError: of `out`: it does not end in .csv, or is a folder.
    """
    path = path.expanduser().absolute()
    if path.suffix.lower() != ".csv" or path.is_dir():
        raise OptionError("out", "a file ending in .csv", path, "Name one, such as labels.csv.")
    return path


def store_path(out: Path) -> Path:
    """Where the answers are kept whose table is `out`."""
    return out.with_suffix(".sqlite")


def test_path(out: Path) -> Path:
    """Where the labels of the random share go beside those of `out`."""
    return out.with_name(f"{out.stem}.test.csv")


def write_labels(session: Session, out: Path) -> None:
    """Two tables, `out` with what is trained on, and `test_path(out)` with the random share.

    Each has the columns `text`, `label` and `row`, the number of the text's row in its file from 0, or nothing for
    labels that were given; it is written whole or not at all.

    Raises:
        UserError: one can't be written; the answers are where they were.
    """
    for path, labels in ((out, session.training()), (test_path(out), session.random_share())):
        rows: Sequence[int] = session.collection.rows
        frame = pd.DataFrame(
            {
                "text": [session.texts[text] for text, _ in labels],
                "label": [session.classes[label] for _, label in labels],
                "row": [rows[text] if text < len(rows) else None for text, _ in labels],
            }
        )
        write_table(path, frame.astype({"row": "Int64"}), quoting=csv.QUOTE_NONNUMERIC)


class Training:
    """`train` on the labels and `evaluate` on the random share, one after the other in processes of their own.

    They are the commands that a person would type; the run's folder is one like all others. Methods may be called from
    several threads.

    Args:
        out: the table of labels, beside which the run's folder is made.
        overrides: further ones of `train`, such as `model=gpt2-small`.
        done: is told the folder of a run that is trained and evaluated.
    """

    def __init__(
        self, out: Path, overrides: Sequence[str] = (), done: Callable[[Path], None] = lambda folder: None
    ) -> None:
        numbers = (re.fullmatch(r"run(\d+)", path.name) for path in out.with_suffix(".runs").glob("run*"))
        number = 1 + max((int(found[1]) for found in numbers if found), default=0)
        self.folder = out.with_suffix(".runs") / f"run{number}"
        given = ["data=csv", f"data.path={_quoted(out)}", f"data.test_path={_quoted(test_path(out))}", *overrides]
        self.commands = [
            ["train", *given, f"hydra.run.dir={_quoted(self.folder)}"],
            ["evaluate", "--checkpoint", str(self.folder)],
        ]
        self.lines: list[str] = []
        self.failed = False
        self._tell_done = done
        self._stopped = False
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._work, name="training", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    @property
    def done(self) -> bool:
        """Whether the classifier and its page are there."""
        return not self.running and not self.failed

    def stop(self) -> None:
        """End what is running."""
        self._stopped = True
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
        self._thread.join()

    def _work(self) -> None:
        for command in self.commands:
            if self._stopped or not self._run(command):
                self.failed = True
                return
        self._tell_done(self.folder)

    def _run(self, command: list[str]) -> bool:
        self.lines.append(f"$ gpt-classifier {' '.join(command)}")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gpt_classifier", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip())
        return self._process.wait() == 0


def expect_trainable(session: Session) -> None:
    """Refuse labels that `train` would refuse.

    Raises:
        UserError: fewer than two classes have labels to learn from, or the random share has none.
    """
    trained = {label for _, label in session.training()}
    measured = {label for _, label in session.random_share()}
    if len(trained) < 2:
        raise UserError("A classifier needs labels of at least two classes to learn from. Label some more texts.")
    if not measured:
        raise UserError("No text of the random share is labelled yet, on which it is measured. Label some more texts.")
    if measured - trained:
        names = ", ".join(session.classes[label] for label in sorted(measured - trained))
        raise UserError(
            f"The random share has texts of {names}, of which there is no label to learn from yet. Label some more "
            f"texts."
        )


def _quoted(path: Path) -> str:
    """A path as the value of an override of Hydra, in quotation marks where it needs them."""
    written = str(path)
    if re.fullmatch(r"[\w./-]+", written):
        return written
    escaped = re.sub(r"(\\+)('|$)", r"\1\1\2", written)  # a backslash is one but before a quotation mark or the end
    return "'" + escaped.replace("'", "\\'") + "'"
