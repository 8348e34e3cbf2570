"""The app as a whole: its pages and what they ask for, on a port of this machine."""

import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from markupsafe import Markup

from gpt_classifier import listening, pages
from gpt_classifier.app.guard import Guard, policy
from gpt_classifier.errors import OptionError, UserError

SECONDS = 5  # that answers which have begun may take when the process ends


def application(routers: Sequence[APIRouter], host: str) -> Guard:
    """What answers requests.

    Args:
        routers: each page with what it asks for.
        host: that it listens on.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)  # documentation would come from a CDN
    for router in routers:
        app.include_router(router)

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response(status_code=204)  # browsers ask for one, whatever the page says

    @app.exception_handler(UserError)
    def told(request: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_code=400)

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": "The request is not what this page sends."}, status_code=422)

    return Guard(app, host)


def page(template: str, scripts: Sequence[Path], **values: Any) -> HTMLResponse:
    """A page that runs its own scripts and no others.

    Args:
        template: of `gpt_classifier.pages`.
        scripts: in their order.
        values: that the template names.
    """
    source = "\n".join(path.read_text(encoding="utf-8") for path in scripts)
    return whole(pages.render(template, script=Markup(source), **values))


def whole(content: str) -> HTMLResponse:
    """A page that has everything in it."""
    return HTMLResponse(content, headers={"content-security-policy": policy(content)})


def listen(host: str, port: int) -> socket.socket:
    """A port to listen on.

    Raises:
        UserError: it is taken, or there is no such address here.
    """
    try:
        return listening.listen(host, port)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OptionError(
            "--port", f"a free port of {host}", f"{port}: {reason}", "Name another, or 0 for any free one."
        ) from error


def address(listener: socket.socket) -> str:
    """Where the browser finds it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def serve(app: Guard, listener: socket.socket) -> None:
    """Answer until Ctrl-C or SIGTERM."""
    config = uvicorn.Config(
        app, log_level="error", access_log=False, server_header=False, timeout_graceful_shutdown=SECONDS, ws="none"
    )
    with contextlib.suppress(KeyboardInterrupt):  # which uvicorn raises again once it has ended in order
        uvicorn.Server(config).run(sockets=[listener])


def warning(host: str) -> str:
    """What to say where others than this machine's users reach the app; empty where they don't."""
    if listening.is_loopback(host):
        return ""
    return (
        f"Everyone who reaches this machine at {host} can read the texts and answer: there is no password. Without "
        f"--host only this machine does, and others through ssh -L."
    )
