"""The application: its parts are built when it starts, and nothing at import time."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic.json_schema import models_json_schema

from api import job_routes, jobs, optuna_page, problems, result_routes, service_routes
from api.database import Database
from api.dependencies import Service
from api.events import EventFeed
from api.keys import KeyVerifier
from api.middleware import Envelope
from api.ray_jobs import RayJobs
from api.reconciler import Reconciler
from api.settings import Settings
from api.writer import Writer
from mcl_ray import __version__
from mcl_ray.jobs.claims import Attempts
from mcl_ray.jobs.messages import API_PREFIX, Problem

SWITCH_S = 0.0005
"""Time after which a thread that computes gives way: Python's 5 ms delay every answer that waits for one."""
PAGE = Path(__file__).parent / "page"
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": HTTPStatus(status).phrase,
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status in (400, 401, 403, 404, 406, 408, 409, 413, 422, 429, 503)
}
"""Errors of every endpoint. With `model` instead of a reference, FastAPI builds as many models as there are, 1 MB."""


def create_app(settings: Settings) -> FastAPI:
    """Build the application."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _running(settings) as app.state.service:
            yield

    app = FastAPI(
        title="mcl-ray",
        version=__version__,
        description="Submit jobs that train and tune cohorts of networks on Ray, and read their results.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{API_PREFIX}/openapi.json",
        exception_handlers=dict.fromkeys(problems.HANDLED, problems.answer),
    )
    for router in (job_routes.router, result_routes.router, service_routes.router):
        app.include_router(router, prefix=API_PREFIX, responses=ERRORS)
    app.include_router(service_routes.health, responses=ERRORS)
    app.include_router(optuna_page.router)
    app.mount("/page", StaticFiles(directory=PAGE))
    app.add_route("/", lambda _: FileResponse(PAGE / "index.html"), include_in_schema=False)
    app.add_middleware(Envelope, settings=settings)
    app.openapi = partial(_openapi, app.openapi)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


def _openapi(generate: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the OpenAPI description, with the model of errors."""
    description = generate()
    _, problem = models_json_schema([(Problem, "serialization")], ref_template="#/components/schemas/{model}")
    description["components"]["schemas"] |= problem["$defs"]
    return description


@contextlib.asynccontextmanager
async def _running(settings: Settings) -> AsyncIterator[Service]:
    """Build the parts of the service, and run its loops until the context ends."""
    sys.setswitchinterval(SWITCH_S)
    database = Database(settings.url_of_database)
    await asyncio.to_thread(database.migrate)
    root = settings.results_root
    if isinstance(root, Path):
        root.mkdir(parents=True, exist_ok=True)
    writer, attempts = Writer(database, settings.commit_timeout_s), Attempts(root)
    ray, feed = RayJobs(settings, str(root)), EventFeed(database)
    reconciler = Reconciler(database, writer, ray, attempts, settings)
    if database.is_sqlite:
        await writer.write(jobs.wake_all)
    loops = [feed.run()] + ([] if settings.no_reconciler else [reconciler.run()])
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield Service(settings, database, KeyVerifier(database), writer, ray, attempts, reconciler, feed)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await ray.close()
        writer.close()
        database.close()
