"""The endpoints of jobs: submit, look, list, cancel, retry, extend, and follow."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api import jobs
from api.dependencies import (
    ControlledJob,
    ReadableJob,
    Reader,
    Service,
    ServiceDep,
    Submitter,
    find_job,
    open_stream,
    parts,
)
from api.jobs import Row
from mcl_ray.jobs.messages import (
    API_PREFIX,
    ExtendRequest,
    Job,
    JobId,
    JobPage,
    JobRequest,
    JobSpec,
    Kind,
    Label,
    Resolved,
)
from mcl_ray.jobs.states import LIVE, State

router = APIRouter(prefix="/jobs", tags=["jobs"])
SEARCHING: tuple[Kind, ...] = ("sweep", "table")
"""Kinds that take milliseconds to check: in a thread, so that the loop can answer other requests meanwhile."""
MAX_EVENT_ID = 2**63 - 1


class Submission:
    """Adds jobs, for one request."""

    def __init__(self, service: Service, response: Response, key: str | None) -> None:
        self.service, self._response, self._key = service, response, key

    async def add(self, owner: str, spec: JobSpec, body: str, parent: str | None = None) -> Job:
        """Make a job durable, and return it; or return the one that the same key made before.

        Raises:
            HTTPException: 422 for a key of another request, 429 above the owner's quota, 409 while another job writes
                into the same folder.
        """
        service, now = self.service, time.time()
        job_id = spec.origin if parent is None else secrets.token_hex(16)
        values = {
            "id": job_id,
            "owner": owner,
            "key": self._key or f"auto:{job_id}",
            "body_hash": hashlib.sha256(f"{parent or ''}:{body}".encode()).hexdigest(),
            "kind": spec.request.kind,
            "label": spec.request.label,
            "spec": spec.model_dump_json(),
            "parent": parent,
            "origin": spec.origin,
            "due": now,
            "created": now,
        }
        most = service.settings.max_jobs_per_owner
        row, is_new = await service.writer.write(jobs.Insertion(service.database, values, most))
        if row is None:
            other = await asyncio.to_thread(jobs.live_of_origin, service.database, spec.origin)
            if other is not None:
                raise HTTPException(409, f"results have one writer, but job {other} continues them and has not ended")
            raise HTTPException(429, f"an owner may have {most} jobs that have not ended")
        if row.body_hash != values["body_hash"]:
            raise HTTPException(422, "an Idempotency-Key is of one request, but this one was used for another")
        structlog.contextvars.bind_contextvars(job=row.id, is_new=is_new)  # for the log line of the request
        if is_new:
            service.reconciler.wake()
        self._response.headers["Location"] = f"{API_PREFIX}/jobs/{row.id}"
        return view(row)


async def submission_of(
    request: Request,
    response: Response,
    idempotency_key: Annotated[
        str | None,
        Header(pattern=r"^[\x21-\x7e]{1,128}$", description="One key gives one job, however often it is sent."),
    ] = None,
) -> Submission:
    """Return what adds the jobs of a request."""
    return Submission(parts(request), response, idempotency_key)


SubmissionDep = Annotated[Submission, Depends(submission_of)]


@router.post("", status_code=202, responses={200: {"model": Resolved, "description": "With `validate_only`."}})
async def submit(
    request: JobRequest,
    response: Response,
    principal: Submitter,
    submission: SubmissionDep,
    validate_only: Annotated[bool, Query(description="Answer what would run, and run nothing.")] = False,
) -> Job | Resolved:
    """Submit a job. A 202 means that it is durable."""
    from mcl_ray.jobs import specs  # 5 MB of memory, at the first submission

    service = submission.service
    if request.kind in SEARCHING:
        resolved = await asyncio.to_thread(specs.resolve, request, service.settings.plugins)
    else:
        resolved = specs.resolve(request, service.settings.plugins)
    if validate_only:
        response.status_code = 200
        return resolved
    source = request.source and (await find_job(service, principal, request.source)).origin
    origin, data = secrets.token_hex(16), service.settings.data_root
    spec = JobSpec(request=request, origin=origin, source_origin=source, data=data)
    return await submission.add(principal.owner, spec, request.model_dump_json())


@router.get("")
def list_jobs(
    service: ServiceDep,
    principal: Reader,
    state: State | None = None,
    kind: Kind | None = None,
    owner: Annotated[str | None, Query(max_length=64)] = None,
    label: Label | None = None,
    page_size: Annotated[int, Query(ge=1, le=100)] = 50,
    page_token: Annotated[JobId | None, Query(description="`next_page_token` of the page before.")] = None,
) -> JobPage:
    """List jobs, the newest first."""
    given = {"state": state, "kind": kind, "owner": owner, "label": label}
    filters = {name: value for name, value in given.items() if value is not None}
    rows = jobs.page(service.database, principal.sees, filters, page_size + 1, page_token)
    token = rows[page_size - 1].id if len(rows) > page_size else None
    return JobPage(jobs=[view(row) for row in rows[:page_size]], next_page_token=token)


@router.get("/{job_id}")
async def get_job(row: ReadableJob) -> Job:
    """Return a job."""
    return view(row)


@router.post("/{job_id}/cancel", status_code=202)
async def cancel(row: ControlledJob, service: ServiceDep, principal: Submitter) -> Job:
    """Ask for the end of a job; it may still succeed if it was about to."""
    if not await service.writer.write(jobs.cancel(row.id)) and row.desired != "cancelled":
        raise HTTPException(409, f"only a job that has not ended can be cancelled, but {row.id} has ended")
    service.reconciler.wake()
    return view(await find_job(service, principal, row.id))


@router.post("/{job_id}/retry", status_code=202)
async def retry(row: ControlledJob, submission: SubmissionDep) -> Job:
    """Submit a new job that continues one which failed or was cancelled, from its last checkpoints."""
    if row.state not in ("failed", "cancelled"):
        raise HTTPException(409, f"only a failed or cancelled job can be retried, but {row.id} is {row.state}")
    spec = JobSpec.model_validate_json(row.spec).model_copy(update={"continues": "retry"})
    return await submission.add(row.owner, spec, "retry", row.id)


@router.post("/{job_id}/extend", status_code=202)
async def extend(request: ExtendRequest, row: ControlledJob, submission: SubmissionDep) -> Job:
    """Submit a new job that gives more trials to a sweep which has ended."""
    if row.kind != "sweep" or row.state in LIVE:
        raise HTTPException(409, f"only a sweep that has ended can be extended, but {row.id}: {row.kind}, {row.state}")
    before = JobSpec.model_validate_json(row.spec)
    spec = before.model_copy(update={"continues": "extend", "extra_trials": before.extra_trials + request.trials})
    return await submission.add(row.owner, spec, request.model_dump_json(), row.id)


@router.get("/{job_id}/events", response_class=EventSourceResponse, dependencies=[Depends(open_stream)])
async def events(
    row: ReadableJob,
    service: ServiceDep,
    last_event_id: Annotated[int, Header(ge=0, le=MAX_EVENT_ID)] = 0,
) -> AsyncIterator[ServerSentEvent]:
    """Stream the changes of a job's state, from the one after `Last-Event-ID` on, until it has ended."""
    async for item in service.feed.follow(row.id, last_event_id):
        yield item


def view(row: Row) -> Job:
    """Return a job as clients see it; one whose spec is damaged is still shown."""
    try:
        request = json.loads(row.spec)["request"]
        name = request.get("name")
    except (ValueError, TypeError, KeyError, AttributeError):
        request = name = None
    return Job.model_validate(dict(row._mapping) | {"request": request, "name": name})
