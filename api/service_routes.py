"""The endpoints of the service itself: health, version, metrics, sign-in, and what is known by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel

from api import monitoring
from api.dependencies import COOKIE, Reader, ServiceDep
from api.problems import problem
from mcl_ray import __version__
from mcl_ray.jobs.messages import JobRequest, Named, Session

health = APIRouter(tags=["service"])
router = APIRouter(tags=["service"])
COOKIE_S = 12 * 3600
"""Lifetime of a session, in seconds."""


@health.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer that the process runs."""
    return {"status": "ok"}


@health.get("/readyz")
async def readyz(service: ServiceDep) -> Response:
    """Answer whether the database, Ray and the results can be used."""
    checks: dict[str, Any] = {
        "database": asyncio.to_thread(service.database.read, sa.select(sa.literal(1))),
        "ray": service.ray.check_ready(),
        "results": asyncio.to_thread(service.attempts.check),
    }
    answers = await asyncio.gather(*checks.values(), return_exceptions=True)
    failed = [name for name, answer in zip(checks, answers, strict=True) if isinstance(answer, BaseException)]
    if failed:
        return problem(503, f"not ready: {', '.join(failed)}")
    return Response('{"status":"ready"}', media_type="application/json")


@health.get("/version")
async def version() -> dict[str, str]:
    """Answer the version of the service."""
    return {"version": __version__}


@health.get("/metrics", response_class=Response)
def metrics(service: ServiceDep, _: Reader) -> Response:
    """Answer the metrics for Prometheus."""
    return Response(monitoring.exposition(service.database), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.post("/session", status_code=204, response_class=Response)
def sign_in(request: Request, _: Reader) -> Response:
    """Keep the key of this request in a cookie that scripts cannot read: an EventSource sends no header."""
    answer, key = Response(status_code=204), request.headers.get("authorization", "").partition(" ")[2]
    is_secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, key, max_age=COOKIE_S, httponly=True, samesite="strict", secure=is_secure)
    return answer


@router.get("/session")
async def session(service: ServiceDep, principal: Reader) -> Session:
    """Return who sends the request, and the dashboards that are open to it."""
    dashboards = {"optuna": "/dashboard", "ray": service.settings.address} if principal.may("admin") else {}
    return Session(owner=principal.owner, scopes=sorted(principal.scopes), dashboards=dashboards)


@router.delete("/session", status_code=204, response_class=Response)
def sign_out() -> Response:
    """Forget the cookie."""
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


@router.get("/recipes")
def recipes(_: Reader) -> list[Named]:
    """List the recipes: runs known by name."""
    from mcl_ray.config.recipes import RECIPES

    return _named(RECIPES)


@router.get("/searches")
def searches(_: Reader) -> list[Named]:
    """List the searches: sweeps known by name."""
    from searches.spec.search_registry import SEARCHES

    return _named(SEARCHES)


@router.get("/suites")
def suites(_: Reader) -> list[Named]:
    """List the suites: tables whose rows are known by name."""
    from searches.spec.suite_registry import SUITES

    return _named(SUITES)


@router.get("/schema")
def schema(_: Reader) -> dict[str, Any]:
    """Return the JSON schemas of a job, a run, a search and a suite."""
    from mcl_ray.config.spec import RunSpec
    from searches.spec.suite import SuiteSpec
    from searches.spec.sweep import SweepSpec

    models: dict[str, type[BaseModel]] = {"job": JobRequest, "run": RunSpec, "search": SweepSpec, "suite": SuiteSpec}
    return {name: model.model_json_schema() for name, model in models.items()}


def _named(known: Mapping[str, Callable[[], object]]) -> list[Named]:
    return [Named(name=name, description=(function.__doc__ or "").strip()) for name, function in known.items()]
