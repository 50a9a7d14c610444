"""The endpoints of jobs: submit, look, list, cancel, retry, extend, and follow."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api import jobs
from api.dependencies import ControlledJob, ReadableJob, Reader, ServiceDep, Submitter, find_job, open_stream
from api.submissions import SubmissionDep, view
from mcl_ray.jobs.messages import ExtendRequest, Job, JobId, JobPage, JobRequest, JobSpec, Kind, Label, Resolved
from mcl_ray.jobs.states import LIVE, State

router = APIRouter(prefix="/jobs", tags=["jobs"])
SEARCHING: tuple[Kind, ...] = ("sweep", "table")
"""Kinds that take milliseconds to check: in a thread, so that the loop can answer other requests meanwhile."""
MAX_EVENT_ID = 2**63 - 1


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
