"""The Optuna dashboard below its own paths: for admins, as it shows every owner's studies, and to read alone.

Optuna and the dashboard are imported when the first page is asked for: they take as much memory as the service itself.
"""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path
from typing import cast

from fastapi import APIRouter, HTTPException, Security
from fastapi.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.dependencies import ServiceDep, principal_of

router = APIRouter(dependencies=[Security(principal_of, scopes=["admin"])], include_in_schema=False)
PATHS = (
    *("/dashboard", "/dashboard/{path:path}", "/static/{path:path}"),
    *("/api/meta", "/api/studies", "/api/studies/{path:path}", "/csv/{path:path}"),
)
"""Paths of the dashboard: its page asks for them without a prefix."""


class _Dashboard(Response):
    """Answer of the dashboard, an ASGI application, to the request itself."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the dashboard's answer; it requires a header that clients may leave out."""
        given = dict(scope["headers"])
        headers = [*scope["headers"], *([] if b"accept-encoding" in given else [(b"accept-encoding", b"identity")])]
        await self._app(dict(scope) | {"headers": headers}, receive, send)


async def dashboard(service: ServiceDep) -> Response:
    """Return a page or a part of the Optuna dashboard."""
    root = service.attempts.root
    if not isinstance(root, Path):
        raise HTTPException(404, "the Optuna dashboard requires results in a folder, but they are in a store")
    return _Dashboard(await asyncio.to_thread(_application, root))


for path in PATHS:
    router.add_api_route(path, dashboard)


@functools.lru_cache(maxsize=1)
def _application(root: Path) -> ASGIApp:
    import optuna_dashboard
    from a2wsgi import WSGIMiddleware

    from api.job_studies import JobStudies

    return cast("ASGIApp", WSGIMiddleware(optuna_dashboard.wsgi(JobStudies(root)), workers=2))
