"""The page on which texts are labelled."""

import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict

from gpt_classifier import pages
from gpt_classifier.app.server import page
from gpt_classifier.app.trying import Trying
from gpt_classifier.labelling.collection import KEYS
from gpt_classifier.labelling.results import Training, expect_trainable, test_path, write_labels
from gpt_classifier.labelling.session import Outdated, Session
from gpt_classifier.paths import near

SCRIPTS = (Path(__file__).parent / "label.js",)
LAST_LINES = 200  # of what training says


class Asked(BaseModel):
    """What the page sends."""

    model_config = ConfigDict(strict=True, extra="forbid")


class GivenAnswer(Asked):
    """The text that was asked, and the place of its class, or `None` to skip it."""

    text: int
    label: int | None


class Wanted(Asked):
    """Whether only random texts are asked."""

    wanted: bool


class Labelling:
    """What the page asks for.

    Args:
        session: of which it shows one text after the other.
        out: the table of labels.
        overrides: of `train` on the tables.

    Attributes:
        routers: of this page, and of the one on which what was trained is tried.
    """

    def __init__(self, session: Session, out: Path, overrides: Sequence[str] = ()) -> None:
        self.session, self.out, self.overrides = session, out, overrides
        self.trying = Trying(None, root="/try")
        self._training: Training | None = None
        self._lock = threading.Lock()
        router = APIRouter()
        self.routers = [router, self.trying.router]
        add = router.add_api_route
        add("/", self.page, methods=["GET"], response_class=HTMLResponse)
        add("/label/status", self.status, methods=["GET"])
        add("/label/answer", self.answer, methods=["POST"])
        add("/label/undo", self.undo, methods=["POST"])
        add("/label/random", self.random, methods=["POST"])
        add("/label/csv", self.csv, methods=["POST"])
        add("/label/train", self.train, methods=["POST"])

    def page(self) -> HTMLResponse:
        """The page itself."""
        session = self.session
        told = {"classes": session.classes, "keys": KEYS[: len(session.classes)]}
        return page(
            "label",
            SCRIPTS,
            title="Label",
            headline=f"{len(session.texts):,} texts, {len(session.classes)} classes",
            notes=[],
            spec=pages.as_json(told),
            classes=list(zip(KEYS, session.classes, strict=False)),
            out=near(self.out),
        )

    def status(self) -> dict[str, Any]:
        """Everything that the page shows."""
        status = self.session.status()
        training, evidence = self._training, status.evidence
        return {
            **asdict(status),
            "advice": evidence.advice() if evidence else "",
            "training": None
            if training is None
            else {"running": training.running, "done": training.done, "lines": training.lines[-LAST_LINES:]},
        }

    def answer(self, given: GivenAnswer) -> JSONResponse:
        """Keep an answer: it is on disk before the next text is sent."""
        try:
            self.session.answer(given.text, given.label)
        except Outdated:
            error = "That text was answered in another tab or window: this answer was not kept."
            return JSONResponse({**self.status(), "error": error}, status_code=409)
        return JSONResponse(self.status())

    def undo(self) -> dict[str, Any]:
        """Ask the last text again."""
        self.session.undo()
        return self.status()

    def random(self, given: Wanted) -> dict[str, Any]:
        """Ask only random texts, or no longer."""
        self.session.ask_random_only(given.wanted)
        return self.status()

    def csv(self) -> dict[str, Any]:
        """Write the tables."""
        with self._lock:
            write_labels(self.session, self.out)
        return {"written": [near(self.out), near(test_path(self.out))]}

    def train(self) -> dict[str, Any]:
        """Write the tables, and begin to train on them."""
        with self._lock:
            if self._training is None or not self._training.running:
                expect_trainable(self.session)
                write_labels(self.session, self.out)
                self._training = Training(self.out, self.overrides, self.trying.follow)
        return self.status()

    def close(self) -> None:
        """End what runs in the background."""
        if self._training is not None:
            self._training.stop()
