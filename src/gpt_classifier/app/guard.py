"""What keeps other pages of the same browser out of an app that listens on this machine."""

import ipaddress
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from gpt_classifier import pages
from gpt_classifier.listening import is_loopback

MOST_BYTES = 50_000_000  # of a request
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""Of every answer: no other page may embed it, and texts stay in no cache."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def policy(page: str) -> str:
    """The content security policy of a page: its own scripts by their hashes, its own origin, and nothing else."""
    return (
        f"default-src 'none'; script-src {pages.script_hashes(page)}; style-src 'unsafe-inline'; connect-src 'self'; "
        f"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class Guard:
    """Passes requests of the app's own pages on, and refuses others.

    A page from elsewhere can make a browser send requests to this machine. It can't set their `Origin`, which must be
    the app's own wherever something is changed or asked for with a body. Nor can it set their `Host`, which must be a
    name of this machine: a name of its own that points here (DNS rebinding) is none.

    Args:
        app: answers.
        host: that it listens on; where that is not loopback, it is also reached by addresses and this machine's name.
    """

    def __init__(self, app: App, host: str) -> None:
        self.app = app
        self.names = {"localhost", host}
        self.loopback = is_loopback(host)
        if not self.loopback:
            self.names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        status, reason = self._refused(scope)
        if not status:

            async def with_headers(message: Message) -> None:
                if message["type"] == "http.response.start":
                    added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                    message["headers"] = [*message.get("headers", ()), *added]
                await send(message)

            await self.app(scope, receive, with_headers)
        elif scope["type"] == "http":
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": reason.encode()})

    def _refused(self, scope: Scope) -> tuple[int, str]:
        """The status and the reason; 0 for what is passed on."""
        if scope["type"] != "http":
            return 403, "no web sockets"
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if not self._is_own(host):
            return 421, "This address is not the app's own."
        if scope["method"] in ("GET", "HEAD"):
            return 0, ""
        if headers.get("origin") != f"http://{host}":
            return 403, "This request does not come from the app's own page."
        length = headers.get("content-length", "")
        if not length.isdecimal():
            return 411, "A request with a body says how long it is."
        if int(length) > MOST_BYTES:
            return 413, f"A request may have {MOST_BYTES:,} bytes at most."
        return 0, ""

    def _is_own(self, host: str) -> bool:
        """Whether a `Host` header names this machine; its port may be another, as through an SSH tunnel."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            address = ipaddress.ip_address(name)
        except ValueError:
            return bool(host) and name.lower() in self.names
        return address.is_loopback if self.loopback else True
