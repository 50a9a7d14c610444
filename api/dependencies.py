"""Dependencies of requests: the service's parts, the sender, and the job that the path names."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated

import structlog
from fastapi import Depends, HTTPException, Path, Request, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from api import jobs, keys
from api.database import Database
from api.events import EventFeed
from api.jobs import Row
from api.keys import KeyVerifier, Principal
from api.ray_jobs import RayJobs
from api.reconciler import Reconciler
from api.settings import Settings
from api.writer import Writer
from mcl_ray.jobs.claims import Attempts

COOKIE = "mcl_key"
LOCAL = Principal("local", frozenset(keys.SCOPES))
"""Sender of every request if no key is required."""
_bearer = HTTPBearer(auto_error=False, description="An API key, as `Authorization: Bearer mcl_…`.")
_cookie = APIKeyCookie(name=COOKIE, auto_error=False, description="The same key, for the page.")


@dataclass
class Service:
    """The parts of a running service."""

    settings: Settings
    database: Database
    keys: KeyVerifier
    writer: Writer
    ray: RayJobs
    attempts: Attempts
    reconciler: Reconciler
    feed: EventFeed
    streams: Counter[str] = field(default_factory=Counter)
    """Owner → event streams that are open."""


def parts(request: Request) -> Service:
    """Return the parts of the service."""
    service: Service = request.app.state.service
    return service


async def service_of(request: Request) -> Service:
    """Return the parts of the service, as a dependency; each takes time, so that those below call `parts`."""
    return parts(request)


ServiceDep = Annotated[Service, Depends(service_of)]


async def principal_of(
    request: Request,
    required: SecurityScopes,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    cookie: Annotated[str | None, Security(_cookie)],
) -> Principal:
    """Return who sends the request.

    Raises:
        HTTPException: 401 without a valid key, 403 if the key lacks the scope that the endpoint requires.
    """
    service = parts(request)
    if service.settings.insecure_local:
        return LOCAL
    found = await service.keys.verify(bearer.credentials if bearer else cookie or "")
    if found is None:
        raise HTTPException(401, "an API key is required: Authorization: Bearer mcl_…", {"WWW-Authenticate": "Bearer"})
    if missing := [scope for scope in required.scopes if not found.may(scope)]:
        raise HTTPException(403, f"the key must have the scope {missing[0]}, but has {', '.join(sorted(found.scopes))}")
    return found


Reader = Annotated[Principal, Security(principal_of, scopes=["read"])]
Submitter = Annotated[Principal, Security(principal_of, scopes=["submit"])]
JobIdPath = Annotated[str, Path(max_length=64)]


async def find_job(service: Service, principal: Principal, job_id: str) -> Row:
    """Return the job of this id.

    Raises:
        HTTPException: 404 if there is none, or if it is another owner's.
    """
    row = await asyncio.to_thread(jobs.get, service.database, job_id, principal.sees)
    if row is None:
        raise HTTPException(404, f"there is no job {job_id}")
    structlog.contextvars.bind_contextvars(job=row.id)  # for the log line of the request
    return row


async def job_of(request: Request, job_id: JobIdPath, principal: Annotated[Principal, Security(principal_of)]) -> Row:
    """Return the job that the path names; its sender must have the scope with which an endpoint asks for the job."""
    return await find_job(parts(request), principal, job_id)


ReadableJob = Annotated[Row, Security(job_of, scopes=["read"])]
ControlledJob = Annotated[Row, Security(job_of, scopes=["submit"])]


async def open_stream(service: ServiceDep, principal: Reader) -> AsyncIterator[None]:
    """Count an event stream while it is open.

    Raises:
        HTTPException: 429 if its owner has too many.
    """
    if service.streams[principal.owner] >= service.settings.max_streams_per_owner:
        raise HTTPException(429, f"an owner may have {service.settings.max_streams_per_owner} streams open")
    service.streams[principal.owner] += 1
    try:
        yield
    finally:
        service.streams[principal.owner] -= 1
