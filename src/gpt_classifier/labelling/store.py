"""Every answer on disk before the next text is shown: one SQLite file, held by one process at a time."""

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gpt_classifier.errors import UserError, first_line

APPLICATION = 0x67706C62  # what says, in the header of the file, that it is one of these
FORMAT = 1
TABLES = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE answers (
  number INTEGER PRIMARY KEY, text INTEGER NOT NULL UNIQUE, class INTEGER, random INTEGER NOT NULL, time REAL NOT NULL
);
CREATE TABLE given (text TEXT PRIMARY KEY, class INTEGER NOT NULL);
"""


@dataclass(frozen=True)
class Answer:
    """What a person said of a text.

    Args:
        text: its place in the collection.
        label: the place of its class; `None` where the text was skipped.
        random: whether the text is of the random share, which nothing is trained on.
    """

    text: int
    label: int | None
    random: bool


class Store:
    """The answers of one collection, in a file that survives the end of the process at any time.

    Each answer is a transaction that is synchronised to disk (write-ahead log, `synchronous=FULL`) before `add`
    returns. Another process that opens the file while this one has it is refused.

    Args:
        path: of the file, which is made when it is not there; its folder, too.
        classes: names, which a file that is there must have been made for.
        sha256: of the texts, see `Collection`; the same holds.

    Raises:
        UserError: another process has the file, it belongs to other texts or classes, is something else, or can't be
            written.
    """

    def __init__(self, path: Path, classes: Sequence[str], sha256: str) -> None:
        self.path = path
        with self._told():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            try:
                self._open({"classes": json.dumps(list(classes)), "texts": sha256})
            except BaseException:
                self._connection.close()
                raise

    def _open(self, about: Mapping[str, str]) -> None:
        run = self._connection.execute
        run("PRAGMA locking_mode=EXCLUSIVE")  # before the first access, which then takes the lock until the end
        run("PRAGMA synchronous=FULL")
        run("BEGIN EXCLUSIVE")
        kind, tables = run("PRAGMA application_id").fetchone()[0], run("SELECT count(*) FROM sqlite_master").fetchone()
        if not kind and not tables[0]:
            for statement in TABLES.split(";")[:-1]:
                run(statement)
            run(f"PRAGMA application_id={APPLICATION}")
            run(f"PRAGMA user_version={FORMAT}")
            self._connection.executemany("INSERT INTO about VALUES (?, ?)", about.items())
        elif kind != APPLICATION or run("PRAGMA user_version").fetchone()[0] != FORMAT:
            raise UserError(f"{self.path} is no file of labels of this version. Name another with --out.")
        else:
            self._expect_same(dict(run("SELECT name, value FROM about")), about)
        run("COMMIT")
        run("PRAGMA journal_mode=WAL")  # once it is known to be one of these

    def _expect_same(self, found: Mapping[str, str], about: Mapping[str, str]) -> None:
        if found["texts"] != about["texts"]:
            raise UserError(
                f"--texts: expected the texts that the labels in {self.path} belong to, but these are other ones. Give "
                f"those, or name another file with --out; --labels takes labels over that are there as CSV."
            )
        if found["classes"] != about["classes"]:
            names = ",".join(json.loads(found["classes"]))
            raise UserError(
                f"--classes: expected {names}, as in {self.path}, in this order. Give those, or name another file with "
                f"--out."
            )

    @contextmanager
    def _told(self, kept: str = "") -> Iterator[None]:
        """Inside, what SQLite refuses is told in a sentence.

        Args:
            kept: what became of the answers.
        """
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            code = getattr(error, "sqlite_errorcode", None)
            primary = None if code is None else code & 0xFF
            if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                reason = "another process has it open. Use that one's page, or end it first"
            elif primary in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                reason = "it is no file of labels, or damaged. Name another with --out"
            elif primary == sqlite3.SQLITE_FULL:
                reason = "the disk is full. Make room"
            else:
                reason = f"it can't be read or written ({first_line(error)})"
            raise UserError(f"{self.path}: {reason}.{f' {kept}' if kept else ''}") from error

    def answers(self) -> list[Answer]:
        """All answers, in the order in which they were given."""
        with self._told():
            rows = self._connection.execute("SELECT text, class, random FROM answers ORDER BY number")
            return [Answer(text, label, bool(random)) for text, label, random in rows]

    def add(self, answer: Answer) -> None:
        """Keep an answer: on disk when this returns.

        Raises:
            UserError: it could not be written; all answers before it are there.
        """
        row = (answer.text, answer.label, answer.random, time.time())
        with self._told("This answer was not kept; all before it are."):
            self._connection.execute("INSERT INTO answers (text, class, random, time) VALUES (?, ?, ?, ?)", row)

    def undo(self) -> Answer | None:
        """Take the last answer back; `None` where there is none.

        Raises:
            UserError: it could not be written; all answers are there.
        """
        answers = self.answers()
        if not answers:
            return None
        with self._told("All answers are there."):
            self._connection.execute("DELETE FROM answers WHERE text = ?", (answers[-1].text,))
        return answers[-1]

    def give(self, labels: Mapping[str, int]) -> None:
        """Keep labels that were there before, by text, all or none; those of a text that has one are left as they are.

        Raises:
            UserError: they could not be written.
        """
        with self._told("None of the given labels were kept."):
            self._connection.execute("BEGIN")
            try:
                self._connection.executemany("INSERT OR IGNORE INTO given VALUES (?, ?)", labels.items())
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def given(self) -> dict[str, int]:
        """What `give` kept."""
        with self._told():
            return dict(self._connection.execute("SELECT text, class FROM given ORDER BY rowid"))

    def close(self) -> None:
        """Let others open the file."""
        self._connection.close()
