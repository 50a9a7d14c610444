"""The endpoints of jobs: submit, look, list, cancel, retry, extend, and follow."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api import jobs
from api.dependencies import ControlledJob, ReadableJob, Reader, Service, ServiceDep, Submitter, find_job, open_stream
from api.jobs import Row
from mcl_ray.jobs import specs
from mcl_ray.jobs.messages import API_PREFIX, ExtendRequest, Job, JobPage, JobRequest, JobSpec, Kind, Label, Resolved
from mcl_ray.jobs.states import LIVE, State

router = APIRouter(prefix="/jobs", tags=["jobs"])
MAX_EVENT_ID = 2**63 - 1
IdempotencyKey = Annotated[
    str | None,
    Header(pattern=r"^[\x21-\x7e]{1,128}$", description="One key gives one job, however often it is sent."),
]


@router.post("", status_code=202, responses={200: {"model": Resolved, "description": "With `validate_only`."}})
async def submit(
    request: JobRequest,
    response: Response,
    service: ServiceDep,
    principal: Submitter,
    idempotency_key: IdempotencyKey = None,
    validate_only: Annotated[bool, Query(description="Answer what would run, and run nothing.")] = False,
) -> Job | Resolved:
    """Submit a job. A 202 means that it is durable."""
    resolved = await run_in_threadpool(specs.resolve, request)
    if validate_only:
        response.status_code = 200
        return resolved
    job_id, source = secrets.token_hex(16), None
    if request.source is not None:
        source = (await run_in_threadpool(find_job, service, principal, request.source)).origin
    spec = JobSpec(request=request, origin=job_id, source_origin=source, data=service.settings.data_root)
    body = request.model_dump_json()
    return await _add(service, principal.owner, spec, job_id, None, body, idempotency_key, response)


@router.get("")
def list_jobs(
    service: ServiceDep,
    principal: Reader,
    state: State | None = None,
    kind: Kind | None = None,
    owner: Annotated[str | None, Query(max_length=64)] = None,
    label: Label | None = None,
    page_size: Annotated[int, Query(ge=1, le=100)] = 50,
    page_token: Annotated[str | None, Query(max_length=200)] = None,
) -> JobPage:
    """List jobs, the newest first."""
    given = {"state": state, "kind": kind, "owner": owner, "label": label}
    filters = {name: value for name, value in given.items() if value is not None}
    rows = jobs.page(service.database, principal.sees, filters, page_size + 1, _read_token(page_token))
    token = _token(rows[page_size - 1]) if len(rows) > page_size else None
    return JobPage(jobs=[view(row) for row in rows[:page_size]], next_page_token=token)


@router.get("/{job_id}")
def get_job(row: ReadableJob) -> Job:
    """Return a job."""
    return view(row)


@router.post("/{job_id}/cancel", status_code=202)
async def cancel(row: ControlledJob, service: ServiceDep, principal: Submitter) -> Job:
    """Ask for the end of a job; it may still succeed if it was about to."""
    if not await service.writer.write(jobs.cancel(row.id)) and row.desired != "cancelled":
        raise HTTPException(409, f"only a job that has not ended can be cancelled, but {row.id} has ended")
    service.reconciler.wake()
    return view(await run_in_threadpool(find_job, service, principal, row.id))


@router.post("/{job_id}/retry", status_code=202)
async def retry(
    row: ControlledJob, response: Response, service: ServiceDep, idempotency_key: IdempotencyKey = None
) -> Job:
    """Submit a new job that continues one which failed or was cancelled, from its last checkpoints."""
    if row.state not in ("failed", "cancelled"):
        raise HTTPException(409, f"only a failed or cancelled job can be retried, but {row.id} is {row.state}")
    spec = JobSpec.model_validate_json(row.spec).model_copy(update={"continues": "retry"})
    return await _add(service, row.owner, spec, secrets.token_hex(16), row.id, "retry", idempotency_key, response)


@router.post("/{job_id}/extend", status_code=202)
async def extend(
    request: ExtendRequest,
    row: ControlledJob,
    response: Response,
    service: ServiceDep,
    idempotency_key: IdempotencyKey = None,
) -> Job:
    """Submit a new job that gives more trials to a sweep which has ended."""
    if row.kind != "sweep" or row.state in LIVE:
        raise HTTPException(409, f"only a sweep that has ended can be extended, but {row.id}: {row.kind}, {row.state}")
    before = JobSpec.model_validate_json(row.spec)
    spec = before.model_copy(update={"continues": "extend", "extra_trials": before.extra_trials + request.trials})
    body = request.model_dump_json()
    return await _add(service, row.owner, spec, secrets.token_hex(16), row.id, body, idempotency_key, response)


@router.get("/{job_id}/events", response_class=EventSourceResponse, dependencies=[Depends(open_stream)])
async def events(
    row: ReadableJob,
    service: ServiceDep,
    last_event_id: Annotated[int, Header(ge=0, le=MAX_EVENT_ID)] = 0,
) -> AsyncIterator[ServerSentEvent]:
    """Stream the changes of a job's state, from the one after `Last-Event-ID` on, until it has ended."""
    async for item in service.feed.follow(row.id, last_event_id):
        yield item


async def _add(
    service: Service,
    owner: str,
    spec: JobSpec,
    job_id: str,
    parent: str | None,
    body: str,
    key: str | None,
    response: Response,
) -> Job:
    """Make a job durable, and return it; or return the one that the same key made before.

    Raises:
        HTTPException: 422 for a key of another request, 429 above the owner's quota, 409 while another job writes into
            the same folder.
    """
    body_hash = hashlib.sha256(f"{parent or ''}:{body}".encode()).hexdigest()
    await run_in_threadpool(_check_room, service, owner, spec.origin, key)
    now = time.time()
    values = {
        "id": job_id,
        "owner": owner,
        "key": key or f"auto:{job_id}",
        "body_hash": body_hash,
        "kind": spec.request.kind,
        "label": spec.request.label,
        "spec": spec.model_dump_json(),
        "parent": parent,
        "origin": spec.origin,
        "due": now,
        "created": now,
    }
    found = await service.writer.write(jobs.insert(service.database, values))
    if found.row.body_hash != body_hash:
        raise HTTPException(422, "an Idempotency-Key is of one request, but this one was used for another")
    if found.is_new:
        service.reconciler.wake()
    response.headers["Location"] = f"{API_PREFIX}/jobs/{found.row.id}"
    return view(found.row)


def _check_room(service: Service, owner: str, origin: str, key: str | None) -> None:
    if key is not None and jobs.has_key(service.database, owner, key):
        return  # adds nothing
    if (other := jobs.live_of_origin(service.database, origin)) is not None:
        raise HTTPException(409, f"results have one writer, but job {other} continues the same one and has not ended")
    most = service.settings.max_jobs_per_owner
    if jobs.count_live(service.database, owner) >= most:
        raise HTTPException(429, f"an owner may have {most} jobs that have not ended")


def view(row: Row) -> Job:
    """Return a job as clients see it; one whose spec is damaged is still shown."""
    try:
        request = json.loads(row.spec)["request"]
        name = request.get("name")
    except (ValueError, TypeError, KeyError, AttributeError):
        request = name = None
    return Job.model_validate(dict(row._mapping) | {"request": request, "name": name})


def _token(row: Row) -> str:
    return base64.urlsafe_b64encode(json.dumps([row.created, row.id]).encode()).decode()


def _read_token(token: str | None) -> tuple[float, str] | None:
    if token is None:
        return None
    try:
        created, job_id = json.loads(base64.urlsafe_b64decode(token.encode()))
        if isinstance(created, float) and isinstance(job_id, str):
            return created, job_id
    except (ValueError, TypeError):
        pass
    raise RequestValidationError([{"loc": ("query", "page_token"), "msg": "it must be a token that a page gave"}])
