"""Submissions: how a request adds a job, once however often it is sent, and how a job is shown."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from typing import Annotated

import structlog
from fastapi import Depends, Header, HTTPException, Request, Response

from api import jobs
from api.dependencies import Service, parts
from api.jobs import Row
from mcl_ray.jobs.messages import API_PREFIX, Job, JobSpec


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


def view(row: Row) -> Job:
    """Return a job as clients see it; one whose spec is damaged is still shown."""
    try:
        request = json.loads(row.spec)["request"]
        name = request.get("name")
    except (ValueError, TypeError, KeyError, AttributeError):
        request = name = None
    return Job.model_validate(dict(row._mapping) | {"request": request, "name": name})
