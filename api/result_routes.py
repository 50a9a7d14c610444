"""The endpoints of results: trials, runs, metrics, the report, artifacts and logs of a job."""

from __future__ import annotations

import dataclasses
import json
import mimetypes
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from api.dependencies import ReadableJob, ServiceDep
from api.tables import JSON, RESPONSES, table, tagged
from mcl_ray.jobs.claims import MAX_LOG_BYTES, results_of
from mcl_ray.jobs.messages import Artifact, RecordId
from mcl_ray.object_store import Uri

router = APIRouter(prefix="/jobs/{job_id}", tags=["results"])
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; worker-src blob:; frame-ancestors 'self'"
)
"""A report has scripts in it; in a sandbox without an origin they reach neither cookies nor the service."""


def folder_of(row: ReadableJob, service: ServiceDep) -> Path:
    """Return the results of a job; of a store, this machine's replica, brought up to date.

    Raises:
        HTTPException: 404 if there are none yet.
    """
    from mcl_ray.results.remote.pull import pull_replica

    found = results_of(service.attempts.root, row.origin)
    folder = pull_replica(found) if isinstance(found, Uri) else found
    if not ((folder / "runs").is_dir() or (folder / "sweeps").is_dir()):
        raise HTTPException(404, f"job {row.id} has no results yet")
    return folder


def files_of(row: ReadableJob, service: ServiceDep) -> dict[str, Any]:
    """Return the files in the manifest of a job, by path; none of a job that has not succeeded."""
    manifest = service.attempts.read(row.id, row.attempt, "manifest") or {}
    return dict(sorted(manifest.get("files", {}).items()))


Folder = Annotated[Path, Depends(folder_of)]
Files = Annotated[dict[str, Any], Depends(files_of)]


@router.get("/trials", responses=RESPONSES)
def trials(request: Request, folder: Folder) -> Response:
    """Return the ranking of a sweep's configurations, the best first."""
    import pyarrow as pa

    from mcl_ray.analysis.sweep_ranking import rank_sweep
    from mcl_ray.results.reader import sweep_folders

    rows: list[dict[str, Any]] = []
    for ranked in sorted(map(rank_sweep, sweep_folders(folder)), key=lambda each: each.sweep["started_at"]):
        of_sweep = {"sweep_id": ranked.sweep["sweep_id"], "objective": ranked.objective}
        for found in ranked.rows:
            texts = {"searched": json.dumps(dict(found.searched)), "costs": json.dumps(dict(found.costs))}
            rows.append(of_sweep | dataclasses.asdict(found) | texts)
    return table(request, pa.Table.from_pylist(rows))


@router.get("/summary", response_class=JSONResponse, responses={304: RESPONSES[304]})
def summary(request: Request, row: ReadableJob, folder: Folder) -> Response:
    """Return the summary of a sweep: the best configuration beside others, the ranking, and what figures show."""
    from mcl_ray.reports.sweep_summary import sweep_summary
    from mcl_ray.results.reader import sweep_folders

    folders = sweep_folders(folder)
    if not folders:
        raise HTTPException(404, f"job {row.id} has no sweep")
    return tagged(request, json.dumps(sweep_summary(folders[0]), allow_nan=False).encode(), JSON)


@router.get("/runs", responses=RESPONSES)
def runs(request: Request, folder: Folder) -> Response:
    """Return the runs of a job, with their state."""
    from mcl_ray.results.store import read_runs

    return table(request, read_runs(folder))


@router.get("/metrics", responses=RESPONSES)
def metrics(
    request: Request,
    folder: Folder,
    run: Annotated[RecordId | None, Query(description="One run; all if not given.")] = None,
    split: Annotated[str | None, Query(max_length=32)] = None,
    metric: Annotated[str | None, Query(max_length=64)] = None,
    member: Annotated[str | None, Query(max_length=32)] = None,
) -> Response:
    """Return the figures of every epoch, also while the job runs."""
    import pyarrow.compute as pc

    from mcl_ray.results.store import read_epochs

    found = read_epochs(folder)
    for column, value in {"run_id": run, "split": split, "metric": metric, "member": member}.items():
        if value is not None:
            found = found.filter(pc.equal(found[column], value))
    return table(request, found)


@router.get("/report", response_class=Response, responses={200: {"content": {"text/html": {}}}})
def report(request: Request, row: ReadableJob, service: ServiceDep) -> Response:
    """Return the report of a job as one page."""
    from mcl_ray.reports.run_links import without_folder_links

    content = service.attempts.newest_result(row.origin, "report/report.html")
    if content is None:
        raise HTTPException(404, f"job {row.id} has no report yet")
    return tagged(request, without_folder_links(content), "text/html", {"Content-Security-Policy": REPORT_POLICY})


@router.get("/artifacts")
def artifacts(files: Files) -> list[Artifact]:
    """List the files of a job that has succeeded, with their checksums."""
    return [Artifact(path=path, **facts) for path, facts in files.items()]


@router.get("/artifacts/{path:path}", response_class=Response)
def artifact(path: str, row: ReadableJob, service: ServiceDep, files: Files) -> Response:
    """Return a file of a job that has succeeded; only what its manifest lists can be had."""
    file = service.attempts.open_result(row.origin, path) if path in files else None
    if file is None:
        raise HTTPException(404, f"job {row.id} has no file of this name")
    headers = {
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Content-Disposition": "attachment",
        "Content-Length": str(file.size),
    }
    media_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
    return StreamingResponse(file.chunks, media_type=media_type, headers=headers)


@router.get("/logs", response_class=PlainTextResponse)
def logs(
    row: ReadableJob,
    service: ServiceDep,
    attempt: Annotated[int | None, Query(ge=1, le=100_000, description="The current one if not given.")] = None,
    offset: Annotated[
        int | None, Query(ge=0, le=2**53, description="First byte; the end of the log if not given.")
    ] = None,
    count: Annotated[int, Query(ge=1, le=MAX_LOG_BYTES, description="Bytes at most.")] = 65536,
) -> Response:
    """Return a part of an attempt's log as text; `X-Next-Offset` is where the next part begins."""
    content, start, size = service.attempts.read_log(row.id, attempt or row.attempt, offset, count)
    headers = {"X-Next-Offset": str(start + len(content)), "X-Log-Size": str(size)}
    return Response(content, headers=headers, media_type="text/plain; charset=utf-8")
