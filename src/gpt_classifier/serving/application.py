"""The service: texts in, labels with probabilities out."""

import asyncio
import gc
import logging
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException

from gpt_classifier import __version__, pages
from gpt_classifier.checkpoints import find_checkpoint
from gpt_classifier.errors import first_line
from gpt_classifier.serving.batching import Batcher
from gpt_classifier.serving.drift import Drift
from gpt_classifier.serving.gate import Gate, refusal
from gpt_classifier.serving.logs import LOGGER
from gpt_classifier.serving.metrics import Metrics
from gpt_classifier.serving.served import Answer, Refused, Served
from gpt_classifier.serving.settings import Settings
from gpt_classifier.spec import pooling_text

log = logging.getLogger(LOGGER)

BODY = '{"text": "…"} or {"texts": ["…", …]}'
DOCS_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


class Asked(BaseModel):
    """The body of `POST /predict`: either one text or a list of texts."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str | None = Field(None, description="one text: the answer has `prediction`")
    texts: list[str] | None = Field(None, description="a list: the answer has `predictions`, in the same order")
    top: int = Field(20, ge=1, description="how many classes to give the probability of, the most probable first")


class Prediction(BaseModel):
    """What is said of one text."""

    label: str | int
    confidence: float = Field(description="the probability of the label")
    probabilities: dict[str, float] = Field(description="by class, the most probable first")
    tokens: int = Field(description="that were read")
    truncated: bool = Field(description="whether something of the text was left out, as it is too long")


class Said(BaseModel):
    """The answer of `POST /predict`, with `prediction` or `predictions`."""

    model: str
    model_version: str = Field(description="the beginning of the SHA-256 of the classifier's files")
    request_id: str
    prediction: Prediction | None = None
    predictions: list[Prediction] | None = None


class Direct(APIRoute):
    """A route that reads `Asked` from the body in one step, a fifth of the time of FastAPI's way for any type.

    It is described in `/openapi.json` as any other.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def handle(request: Request) -> Response:
            return await self.endpoint(asked_in(await request.body(), request.headers.get("content-type", "")), request)

        return handle


def asked_in(body: bytes, content_type: str) -> Asked:
    """What a body asks for.

    Args:
        body: JSON.
        content_type: as the header says. Pages of other sites can't have a browser send that of JSON.

    Raises:
        Refused: it is something else; what was given is not told, as it may be long, secret, or no characters.
    """
    kind = content_type.partition(";")[0].strip().lower()
    told = f"the Content-Type is not application/json, nor does it end with +json{'' if kind else ': there is none'}"
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return Asked.model_validate_json(body)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)[:5]
            told = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in found)
    message = f"{told}. Expected {BODY} in JSON, with Content-Type: application/json"
    raise Refused(422, message.encode(errors="replace").decode())


def opened(path: Path, settings: Settings) -> Served:
    """`Served.open` in a thread that ends with it, and with it its OpenMP threads.

    Beside a second set of these, those that compute answers would sleep where they wait for each other, which takes
    twice as long for one text.
    """
    with ThreadPoolExecutor(1, "open") as opener:
        return opener.submit(Served.open, path, settings).result()


def settle() -> None:
    """Let the garbage collector pass by what is there now: a look at all modules takes 0.1 s, while requests wait."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


class Service:
    """A worker: what it answers with, and what it counts.

    Args:
        settings: of the server.
        served: what answers first.
    """

    def __init__(self, settings: Settings, served: Served) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.batcher = Batcher(served, settings.limits)
        self.drift = Drift(served.profile)
        self.began = time.time()
        self._reloading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.metrics.serve(served)

    @property
    def served(self) -> Served:
        return self.batcher.served

    async def reload(self) -> None:
        """Open the checkpoint that the settings name now; it takes over with the next batch, if it is a whole one."""
        async with self._reloading:
            try:
                path = find_checkpoint(self.settings.checkpoint, self.settings.outputs)
                fresh = await asyncio.to_thread(opened, path, self.settings)
            except Exception as error:
                self.metrics.reloads.labels("failed").inc()
                log.error(
                    "reload failed, the old model goes on answering", extra={"fields": {"error": first_line(error)}}
                )
                return
            before = self.served
            self.batcher.served = fresh
            self.drift = Drift(fresh.profile)
            self.metrics.serve(fresh, before)
            settle()
            self.metrics.reloads.labels("done").inc()
            log.info("reloaded", extra={"fields": {"model": fresh.name, "model_version": fresh.version}})

    def reload_on_signal(self) -> None:
        """SIGHUP reloads, where there is such a signal."""

        def begin() -> None:
            task = asyncio.ensure_future(self.reload())
            self._tasks.add(task)  # or it could be collected before it is done
            task.add_done_callback(self._tasks.discard)

        if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, begin)

    async def predict(self, asked: Asked, request: Request) -> JSONResponse:
        """Classify a text, or the texts of a list.

        Raises:
            Refused: they can't be answered, or not now.
        """
        texts = self._texts(asked)
        state = request.state
        state.fields |= {"texts": len(texts), "characters": sum(map(len, texts))}
        if self.settings.log_texts:
            state.fields["given"] = texts
        self.metrics.waiting.inc(len(texts))
        try:
            answer = await self.batcher.ask(texts)
        finally:
            self.metrics.waiting.dec(len(texts))
        self.metrics.answered(answer)
        if answer.served is self.served:  # and not the one before a reload
            self.drift.add(texts, answer)
        state.fields |= {"tokens": int(answer.tokens.sum()), "model_version": answer.served.version}
        said: dict[str, Any] = {
            "model": answer.served.name,
            "model_version": answer.served.version,
            "request_id": state.request_id,
        }
        found = _predictions(answer, asked.top)
        return JSONResponse(said | ({"predictions": found} if asked.text is None else {"prediction": found[0]}))

    def _texts(self, asked: Asked) -> list[str]:
        limits = self.settings.limits
        if (asked.text is None) == (asked.texts is None):
            raise Refused(422, f"expected either {BODY}")
        texts = [asked.text] if asked.text is not None else asked.texts or []
        if not 1 <= len(texts) <= limits.max_texts:
            raise Refused(422, f"texts: expected 1 to {limits.max_texts:,} of them, but there are {len(texts):,}")
        if (characters := sum(map(len, texts))) > limits.max_characters:
            most = f"{limits.max_characters:,}"
            raise Refused(422, f"expected texts of at most {most} characters in all, but they have {characters:,}")
        return texts

    def info(self) -> dict[str, Any]:
        """What answers, and up to where."""
        served, limits = self.served, self.settings.limits
        predictor = served.predictor
        return {
            "model": served.name,
            "model_version": served.version,
            "classes": served.labels,
            "backbone": predictor.spec.backbone["family"],
            "pooling": pooling_text(predictor.spec.pooling),
            "max_length": predictor.spec.max_length,
            "truncate": predictor.spec.truncate,
            "temperature": predictor.temperature,
            "precision": predictor.precision,
            "device": predictor.device_name,
            "note": predictor.note,
            "validation_messages": served.profile.messages if served.profile else None,
            "limits": vars(limits),
            "workers": self.settings.workers,
            "version": __version__,
            "opened_seconds_ago": round(time.time() - served.since, 1),
        }


def _predictions(answer: Answer, top: int) -> list[dict[str, Any]]:
    labels, names = answer.served.labels, answer.served.predictor.classes
    order = np.argsort(-answer.probabilities, axis=1, kind="stable")[:, :top].tolist()
    rows = answer.probabilities.tolist()
    return [
        {
            "label": labels[chosen[0]],
            "confidence": row[chosen[0]],
            "probabilities": {names[i]: row[i] for i in chosen},
            "tokens": tokens,
            "truncated": truncated,
        }
        for row, chosen, tokens, truncated in zip(rows, order, answer.tokens.tolist(), answer.truncated, strict=True)
    ]


def create(settings: Settings, served: Served) -> Gate:
    """The ASGI application of a worker.

    Args:
        settings: of the server.
        served: what answers first.
    """
    service = Service(settings, served)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.batcher:
            if settings.supervised:
                service.reload_on_signal()
            settle()
            log.info("ready", extra={"fields": {"model": service.served.name, "model_version": service.served.version}})
            yield
            gc.unfreeze()

    app = FastAPI(title="gpt-classifier", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.service = service
    app.router.add_api_route(
        "/predict",
        service.predict,
        methods=["POST"],
        response_model=Said,
        summary="Classify texts",
        route_class_override=Direct,
    )
    _add_pages(app, service)
    _add_errors(app)
    return Gate(app, settings, service.metrics)


def _add_pages(app: FastAPI, service: Service) -> None:
    @app.get("/health", summary="Whether it answers")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/info", summary="What answers, and its limits")
    async def info() -> dict[str, Any]:
        return service.info()

    @app.get("/metrics", summary="Numbers for Prometheus", response_class=Response)
    async def metrics() -> Response:
        page = await asyncio.to_thread(service.metrics.page, service.drift)
        return Response(page, media_type=CONTENT_TYPE_LATEST)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        page = pages.render(
            "service",
            title="gpt-classifier",
            headline=f"A text classifier behind HTTP · gpt-classifier {__version__}",
            notes=[],
            limits=vars(service.settings.limits),
            with_key=bool(service.settings.api_key),
        )
        return HTMLResponse(page, headers={"Content-Security-Policy": DOCS_POLICY})


def _add_errors(app: FastAPI) -> None:
    async def refused(request: Request, error: Any) -> Response:
        return refusal(error, request.state.request_id)

    async def of_http(request: Request, error: Any) -> Response:
        return refusal(Refused(error.status_code, str(error.detail)), request.state.request_id, error.headers)

    async def unforeseen(request: Request, error: Any) -> Response:
        message = "an error that nobody foresaw; the log has it under this id"
        return refusal(Refused(500, message), request.state.request_id)

    app.add_exception_handler(Exception, unforeseen)
    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(HTTPException, of_http)


def worker(settings: Settings) -> Gate:
    """The application of a process that the supervisor has started.

    Raises:
        SystemExit: the checkpoint can't be opened.
    """
    from uvicorn.config import STARTUP_FAILURE

    from gpt_classifier.errors import UserError
    from gpt_classifier.faults import paragraph_of

    try:
        settings.prepare()
        served = opened(settings.path, settings)
    except (UserError, OSError, RuntimeError) as error:
        print(f"\n{paragraph_of(error, '') or first_line(error)}", file=sys.stderr, flush=True)
        raise SystemExit(STARTUP_FAILURE) from None
    return create(settings, served)
