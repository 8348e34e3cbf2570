"""What every request passes, whatever it asks for: its id, the key, limits of its body, the log and the counters."""

import asyncio
import contextlib
import hmac
import logging
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpt_classifier.serving.logs import LOGGER
from gpt_classifier.serving.metrics import Metrics
from gpt_classifier.serving.served import Refused
from gpt_classifier.serving.settings import API_KEY, Settings

log = logging.getLogger(LOGGER)

REQUEST_ID = "x-request-id"
PLAIN_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
OPEN = ("/health", "/docs")
"""Paths that need no key: probes have none, and a browser can't send one. They tell nothing of the classifier."""

LINGER = 2.0  # seconds for the rest of a body that is refused

COUNTED = (*OPEN, "/predict", "/info", "/metrics", "/openapi.json")
"""Paths with counters of their own; all others count together, as anybody can make them up."""


def refusal(refused: Refused, request_id: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error as all of them look: `error` and `request_id`."""
    later = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
    body = {"error": refused.message, "request_id": request_id}
    return JSONResponse(body, refused.status, {**later, **(headers or {})})


class Gate:
    """An ASGI application around the service.

    It adds `request_id` and `fields`, what is logged of the request, to the state of each.

    Args:
        app: the service.
        settings: of the server.
        metrics: counters.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app = app
        self.settings = settings
        self.metrics = metrics
        self._key = f"Bearer {settings.api_key}".encode() if settings.api_key else b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID, "")
        request_id = given if PLAIN_ID.fullmatch(given) else uuid.uuid4().hex
        fields: dict[str, Any] = {}
        scope["state"] = {**scope.get("state", {}), "request_id": request_id, "fields": fields}
        status = 0

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        try:
            await self._answer(scope, headers, receive, tell, request_id)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("unforeseen", extra={"fields": {"request_id": request_id}})
        finally:
            self._told(scope, status, time.perf_counter() - began, {"request_id": request_id, **fields})

    async def _answer(self, scope: Scope, headers: Headers, receive: Receive, send: Send, request_id: str) -> None:
        ended = False  # the body

        async def watched() -> Message:
            nonlocal ended
            message = await receive()
            ended = not message.get("more_body", False)
            return message

        try:
            self._expect_key(scope, headers)
            body = await self._body(headers, watched)
        except Refused as refused:
            # what is left of the body would be read as a request
            more = {"Connection": "close"} | ({"WWW-Authenticate": "Bearer"} if refused.status == 401 else {})
            response = refusal(refused, request_id, more)
            await response(scope, receive, send if ended or refused.status == 408 else _lingering(send, receive))
            return
        if body is not None:
            await self.app(scope, _replayed(body, receive), send)

    def _expect_key(self, scope: Scope, headers: Headers) -> None:
        if not self._key or scope["path"] in OPEN:
            return
        if not hmac.compare_digest(headers.get("authorization", "").encode("latin-1"), self._key):
            raise Refused(401, f"expected the header Authorization: Bearer KEY with the server's key ({API_KEY})")

    async def _body(self, headers: Headers, receive: Receive) -> bytes | None:
        """The whole body; `None` if the client has gone.

        Raises:
            Refused: it is too large, or does not come in time.
        """
        most = self.settings.limits.max_body
        too_large = Refused(413, f"expected a body of at most {most:,} bytes")
        length = headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 18 or int(length) > most):
            raise too_large
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.settings.limits.timeout):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > most:
                        raise too_large
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise Refused(408, f"the body did not come within {self.settings.limits.timeout:g} s") from None

    def _told(self, scope: Scope, status: int, seconds: float, fields: dict[str, Any]) -> None:
        path = scope["path"] if scope["path"] in COUNTED else "other"
        self.metrics.requests.labels(path, str(status or "gone")).inc()
        if path == "/predict":
            self.metrics.seconds.observe(seconds)
        level = logging.DEBUG if path in ("/health", "/metrics") and status == 200 else logging.INFO
        told = {"method": scope["method"], "path": scope["path"][:200], "status": status, "seconds": round(seconds, 4)}
        log.log(level, "request", extra={"fields": {**told, **fields}})


def _lingering(send: Send, receive: Receive) -> Send:
    """Send an answer at once, but let it end after the body, as far as that comes soon.

    Closing a connection with bytes that were not read resets it, and the client, which may still be sending them, would
    lose the answer.
    """

    async def linger(message: Message) -> None:
        if message["type"] == "http.response.body":
            await send({**message, "more_body": True})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER):
                    while (await receive()).get("more_body"):
                        pass
            message = {"type": "http.response.body", "body": b""}
        await send(message)

    return linger


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body once more, as one message; then what else the client does."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
