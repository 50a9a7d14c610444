"""Around every request: its id, its log line, its time, the limit on its body, and the headers that protect a page."""

from __future__ import annotations

import asyncio
import random
import re
import time
from typing import Any

import structlog
from anyio import BrokenResourceError
from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.monitoring import REQUESTS
from api.problems import problem
from api.settings import Settings
from mcl_ray.jobs.messages import API_PREFIX

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", PAGE_POLICY.encode()),
)
"""Headers of every answer that does not have them already."""
REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

log = structlog.get_logger()


class Envelope:
    """An ASGI application around another one; nothing of a body or an answer is collected."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings = app, settings
        self._hosts = {*settings.hosts, settings.host}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"  # not secret
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request=request_id)
        status, started = 0, time.perf_counter()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status, headers = message["status"], message["headers"]
                present = {name for name, _ in headers}
                headers += [header for header in HEADERS if header[0] not in present]
                headers.append((b"x-request-id", request_id.encode()))
            await send(message)

        try:
            # DNS rebinding: the name of another site may resolve to this address.
            host = re.sub(r":\d+$", "", Headers(scope=scope).get("host", "")).strip("[]").lower()
            if host not in self._hosts:
                await problem(400, "a request must name this service as `hosts` does")(scope, receive, answer)
            else:
                body = _Body(receive, self._settings.max_body_bytes, self._settings.body_timeout_s)
                await self._app(scope, body, answer)
        except* BrokenResourceError:
            pass  # the reader of an event stream has gone: github.com/fastapi/fastapi/discussions/15725
        finally:
            _record(scope, status, time.perf_counter() - started)


class _Body:
    """Counts a body as it arrives: a declared length is only a claim."""

    def __init__(self, receive: Receive, most: int, timeout_s: float) -> None:
        self._receive, self._most, self._ends = receive, most, asyncio.get_running_loop().time() + timeout_s
        self._count, self._is_whole = 0, False

    async def __call__(self) -> Message:
        if self._is_whole:
            return await self._receive()  # waits for the client to go away
        try:
            async with asyncio.timeout_at(self._ends):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "the body of a request must arrive in time") from None
        self._count += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._count > self._most:
            raise HTTPException(413, f"a body must have {self._most} bytes or fewer")
        return message


def _record(scope: Scope, status: int, seconds: float) -> None:
    route: Any = scope.get("route")
    path = getattr(route, "path", "unmatched")
    if route and scope["path"].startswith(f"{API_PREFIX}/") and not path.startswith(API_PREFIX):
        path = API_PREFIX + path  # a route of an included router knows its own part only
    REQUESTS.labels(scope["method"] if route else "other", path, str(status)).observe(seconds)
    log.info("request", method=scope["method"], path=scope["path"], status=status, ms=round(1000 * seconds, 1))
