"""The page on which a classifier is tried, and the one of its evaluation."""

import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict

from gpt_classifier import pages
from gpt_classifier.app.server import page, whole
from gpt_classifier.checkpoints import find_checkpoint, run_folder
from gpt_classifier.errors import OptionError, UserError
from gpt_classifier.export import html
from gpt_classifier.inference import files, writing
from gpt_classifier.inference.opening import open_predictor
from gpt_classifier.inference.text_predictor import TextPredictor
from gpt_classifier.paths import near
from gpt_classifier.tables import reading

SCRIPTS = (
    Path(__file__).parent / "remote.js",
    Path(html.__file__).parent / "page.js",
    Path(__file__).parent / "table.js",
)
NO_LIMIT = 10**9  # tokens
TYPES = {"csv": "text/csv", "tsv": "text/tab-separated-values", "jsonl": "application/x-ndjson", "txt": "text/plain"}


class Asked(BaseModel):
    """A text, and whether the probability after each token is wanted."""

    model_config = ConfigDict(strict=True, extra="forbid")
    text: str
    trace: bool = False


class Trying:
    """A classifier that texts are given to, opened when it is first asked.

    Args:
        checkpoint: of a run, a saved classifier or an export to ONNX; `None` until `follow` names one.
        examples: texts to click on.
        root: where its page is; `/` belongs to another one while texts are labelled.
        weights: the pretrained weights that it builds on, if they were moved.
        verify: read all of these to check them.
    """

    def __init__(
        self,
        checkpoint: Path | None,
        examples: Sequence[str] = (),
        root: str = "/",
        weights: Path | None = None,
        verify: bool = False,
    ) -> None:
        self.checkpoint, self.examples, self.weights, self.verify = checkpoint, list(examples), weights, verify
        self.labelling = root != "/"
        self._opened: TextPredictor | None = None
        self._lock = threading.Lock()  # one text at a time: they share the processor anyway
        self.router = APIRouter()
        add = self.router.add_api_route
        add(root, self.page, methods=["GET"], response_class=HTMLResponse)
        add("/try/text", self.text, methods=["POST"])
        add("/try/table", self.table, methods=["POST"])
        add("/look", self.look, methods=["GET"], response_class=HTMLResponse)

    def follow(self, folder: Path) -> None:
        """Open another run from now on."""
        with self._lock:
            self.checkpoint, self._opened = folder, None

    def open(self) -> TextPredictor:
        """The classifier.

        Raises:
            UserError: there is none yet, or it can't be opened.
        """
        if self.checkpoint is None:
            raise UserError("There is no classifier yet: train one on the page Label.")
        if self._opened is None:
            place = find_checkpoint(str(self.checkpoint), Path("outputs"))
            self._opened = open_predictor(place, self.weights, self.verify)
        return self._opened

    def page(self) -> HTMLResponse:
        """The page itself."""
        with self._lock:
            try:
                predictor = self.open()
            except UserError as error:
                return self._message("Try", str(error))
        told = {"classes": predictor.classes, "trace": has_trace(predictor)}
        return page(
            "try",
            SCRIPTS,
            title=f"Text classifier: {html.shortened(predictor.classes)}",
            headline=f"{near(Path(str(self.checkpoint)))}, which tells {len(predictor.classes)} classes apart",
            notes=[predictor.note] if predictor.note else [],
            examples=self.examples,
            trace=told["trace"],
            facts=self._facts(predictor),
            spec=pages.as_json(told),
            weights="",
            labelling=self.labelling,
            evaluated=self.report() is not None,
        )

    def _facts(self, predictor: TextPredictor) -> list[tuple[str, str]]:
        from gpt_classifier.evaluation.messages import origin
        from gpt_classifier.inference.predictor import Predictor

        classes = ("classes", ", ".join(predictor.classes))
        if not isinstance(predictor, Predictor):
            return [classes, ("model", "an export to ONNX")]
        rows = origin(predictor, find_checkpoint(str(self.checkpoint), Path("outputs")), ())
        return [classes, *(row for row in rows if row[0] != "messages")]

    def _message(self, title: str, text: str) -> HTMLResponse:
        return page("message", (), title=title, headline=text, notes=[], labelling=self.labelling)

    def text(self, asked: Asked) -> dict[str, Any]:
        """Probabilities of a text, and those after each token where they are wanted and there are any."""
        with self._lock:
            predictor = self.open()
            probabilities = predictor.predict_proba([asked.text])[0].tolist()
            tokens = len(predictor.tokenizer.encode([asked.text], NO_LIMIT, "head")[0][0])
            pieces = traced(predictor, asked.text) if asked.trace else []
        return {
            "probabilities": probabilities,
            "tokens": tokens,
            "kept": min(tokens, predictor.spec.max_length),
            "pieces": pieces,
        }

    async def table(self, request: Request, name: str, column: str = "text") -> Response:
        """The rows of a file with predictions, as `gpt-classifier predict --input` writes them."""
        return await run_in_threadpool(self._table, await request.body(), name, column)

    def _table(self, content: bytes, name: str, column: str) -> Response:
        with self._lock, TemporaryDirectory() as folder:
            predictor = self.open()
            source = Path(folder) / f"table{''.join(Path(name).suffixes[-2:])}"
            source.write_bytes(content)
            try:
                kind = files.input_kind([source], None)
                target = writing.target_kind(None, kind, [source])
                out = Path(folder) / "classified"
                with (
                    files.opened_rows([source], "text" if kind == "txt" else column, reading.Style()) as (
                        columns,
                        rows,
                    ),
                    writing.written(out, "utf-8") as file,
                ):
                    whole_numbers = predictor.spec.whole_numbers
                    writer = writing.Writer(file, target, columns, predictor.classes, True, whole_numbers=whole_numbers)
                    writing.classify(rows, predictor.predict_proba, writer, why_not=predictor.why_too_long)
            except OptionError as error:
                error.field = {"--text-column": "column"}.get(error.field, name)
                raise UserError(str(error).replace(str(source), name)) from error
            found = out.read_bytes()
        headers = {"content-disposition": f'attachment; filename="classified.{target}"'}
        return Response(found, media_type=TYPES[target], headers=headers)

    def report(self) -> Path | None:
        """The page that `evaluate` wrote about the classifier, if it is there."""
        if self.checkpoint is None:
            return None
        place = self.checkpoint if self.checkpoint.is_dir() else run_folder(self.checkpoint)
        path = place / "evaluation" / "report.html"
        return path if path.is_file() else None

    def look(self) -> HTMLResponse:
        """That page."""
        path = self.report()
        if path is None:
            hint = f"gpt-classifier evaluate --checkpoint {near(self.checkpoint)} writes it." if self.checkpoint else ""
            return self._message("Look", f"There is no page about this classifier yet. {hint}")
        return whole(path.read_text(encoding="utf-8"))


def has_trace(predictor: TextPredictor) -> bool:
    """Whether one pass tells the probabilities after each token."""
    from gpt_classifier.inference.predictor import Predictor

    if not isinstance(predictor, Predictor):
        return False
    return predictor.model.backbone.causal and predictor.model.pooling.has_trace


def traced(predictor: TextPredictor, text: str) -> list[dict[str, Any]]:
    """Probabilities after each token; none where this text has none."""
    from gpt_classifier.inference.inside import trace
    from gpt_classifier.inference.predictor import Predictor

    if not isinstance(predictor, Predictor):
        return []
    try:
        found = trace(predictor, text)
    except UserError:
        return []
    return [
        {"text": piece, "probabilities": values.tolist()}
        for piece, values in zip(found.tokens, found.probabilities, strict=True)
    ]
