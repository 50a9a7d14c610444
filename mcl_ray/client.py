"""A typed client of the service.

Example:
    >>> client = Client("http://127.0.0.1:8080", key="mcl_…")
    >>> client.submit("digits", trials=8).wait().ranking()
"""

from __future__ import annotations

import io
import json
import os
import random
import time
import uuid
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from mcl_ray.config.overrides import explained
from mcl_ray.errors import MclError, UserError
from mcl_ray.jobs.messages import API_PREFIX, Artifact, Job, JobEvent, JobPage, JobRequest, Kind, Resolved
from mcl_ray.jobs.states import TERMINAL

PARQUET = "application/vnd.apache.parquet"
TRIES = 6
"""Times that a request is sent while the service or the network is away."""
RETRIED = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)


class ServiceError(MclError):
    """The service cannot be reached, or failed."""


class RefusedError(UserError):
    """The service refuses the request; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """The service at an address; every request that changes something is safe to send again, and is."""

    def __init__(self, server: str, *, key: str | None = None, timeout_s: float = 60.0) -> None:
        """Connect to a service, at the first request.

        Args:
            server: Its address, http://host:port.
            key: An API key; MCL_API_KEY of the environment if not given.
            timeout_s: Time that one request may take, in seconds.

        Raises:
            UserError: the address is none, or the key has characters that no key has.
        """
        if not server.startswith(("http://", "https://")):
            raise UserError(f"the address of a service must begin with http:// or https://, but got {server}")
        key = key or os.environ.get("MCL_API_KEY", "")
        if not (key.isascii() and key.isprintable()):
            raise UserError("`key` and MCL_API_KEY hold printable ASCII characters alone; this key holds others")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=server.rstrip("/") + API_PREFIX, headers=headers, timeout=timeout_s)

    def submit(
        self,
        name: str | None = None,
        /,
        *,
        kind: Kind = "sweep",
        overrides: dict[str, Any] | None = None,
        execution: dict[str, Any] | None = None,
        source: str | None = None,
        run: str | None = None,
        peer: str = "best",
        label: str = "",
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> JobHandle:
        """Submit a job.

        Args:
            name: Search, recipe or suite.
            kind: Kind of the job.
            overrides: Fields by full path, {"cohort.size": 4}.
            execution: Workers of the job, {"workers": "2"}.
            source: Job whose run is classified by, exported or evaluated.
            run: Run of the source; None for its best one.
            peer: Network that is exported.
            label: Label to find the job by.
            idempotency_key: Key that gives one job, however often it is sent; a new one if not given.
            **fields: Fields by their short names.

        Raises:
            RefusedError: the request breaks a rule.
            ServiceError: the service cannot be reached.
        """
        body = self._body(name, kind, (overrides or {}) | fields, execution, source, run, peer, label)
        answer = self._send("POST", "/jobs", content=body, key=idempotency_key or uuid.uuid4().hex)
        return JobHandle(self, Job.model_validate_json(answer.content))

    def validate(self, name: str | None = None, /, *, kind: Kind = "sweep", **fields: Any) -> Resolved:
        """Return what a job would run, without running it."""
        body = self._body(name, kind, fields, None, None, None, "best", "")
        answer = self._send("POST", "/jobs", content=body, params={"validate_only": "true"})
        return Resolved.model_validate_json(answer.content)

    def job(self, job_id: str) -> JobHandle:
        """Return the job of this id."""
        return JobHandle(self, Job.model_validate_json(self._send("GET", f"/jobs/{job_id}").content))

    def jobs(self, **filters: str) -> Iterator[Job]:
        """Yield jobs, the newest first; filters are state, kind, owner and label."""
        token: str | None = ""
        while token is not None:
            params = filters | {"page_size": "100"} | ({"page_token": token} if token else {})
            page = JobPage.model_validate_json(self._send("GET", "/jobs", params=params).content)
            yield from page.jobs
            token = page.next_page_token

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _body(
        self,
        name: str | None,
        kind: Kind,
        overrides: dict[str, Any],
        execution: dict[str, Any] | None,
        source: str | None,
        run: str | None,
        peer: str,
        label: str,
    ) -> bytes:
        values = {"kind": kind, "name": name, "overrides": overrides, "execution": execution or {}, "label": label}
        values |= {"source": source, "run": run, "peer": peer}
        try:
            return JobRequest.model_validate(values).model_dump_json().encode()
        except ValidationError as error:
            raise RefusedError(422, explained(JobRequest, error)) from None

    def _send(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        params: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        key: str | None = None,
    ) -> httpx.Response:
        """Send a request, again and again while the service is away: what it changes has an idempotency key."""
        sent = dict(headers or {}) | ({"Content-Type": "application/json"} if content is not None else {})
        sent |= {"Idempotency-Key": key} if key else {}
        why = ""
        for attempt in range(TRIES):
            try:
                answer = self._http.request(method, path, content=content, params=params, headers=sent)
            except httpx.HTTPError as error:
                why = f"{type(error).__name__}: {error}"
            else:
                if answer.status_code not in RETRIED:
                    return _checked(answer)
                why = _detail(answer)
            if attempt < TRIES - 1:
                time.sleep(min(8.0, 0.25 * 2**attempt) * random.uniform(0.5, 1.0))  # noqa: S311
        raise ServiceError(f"the service must answer at {self._http.base_url}, but: {why}")


class JobHandle:
    """A job of the service."""

    def __init__(self, client: Client, job: Job) -> None:
        self._client, self.job = client, job
        """The job as of the last answer of the service."""

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    def refresh(self) -> Job:
        """Ask for the job's state, and return it."""
        self.job = Job.model_validate_json(self._get("").content)
        return self.job

    def wait(self, timeout_s: float | None = None, poll_s: float = 1.0) -> Self:
        """Return once the job has ended, however it ended.

        Raises:
            TimeoutError: it has not after `timeout_s`.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self.refresh().state not in TERMINAL:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"job {self.id} is {self.job.state} after {timeout_s} s")
            time.sleep(poll_s)
        return self

    def events(self, after: int = 0) -> Iterator[JobEvent]:
        """Yield the changes of the job's state as they happen, until it has ended; a stream that breaks is resumed."""
        while True:
            headers = {"Last-Event-ID": str(after), "Accept": "text/event-stream"}
            try:
                with self._client._http.stream(
                    "GET", f"/jobs/{self.id}/events", headers=headers, timeout=httpx.Timeout(60.0)
                ) as answer:
                    if answer.is_error:
                        answer.read()
                    for event in _read_events(_checked(answer)):
                        after = event.id
                        yield event
                        if event.state in TERMINAL:
                            return
            except httpx.HTTPError:
                time.sleep(1.0)

    def cancel(self) -> Job:
        """Ask for the end of the job."""
        answer = self._client._send("POST", f"/jobs/{self.id}/cancel")
        self.job = Job.model_validate_json(answer.content)
        return self.job

    def retry(self) -> JobHandle:
        """Submit a job that continues this one, which failed or was cancelled."""
        return self._child("retry", None)

    def extend(self, trials: int) -> JobHandle:
        """Submit a job that gives this sweep more trials."""
        return self._child("extend", json.dumps({"trials": trials}).encode())

    def ranking(self) -> list[dict[str, Any]]:
        """Return the configurations of a sweep, best first; `searched` and `costs` are mappings."""
        rows = self._table("trials").to_pylist()
        return [row | {name: json.loads(row[name]) for name in ("searched", "costs")} for row in rows]

    def runs(self) -> pa.Table:
        """Return the runs of the job."""
        return self._table("runs")

    def metrics(self, **filters: str) -> pa.Table:
        """Return the figures of every epoch; filters are run, split, metric and member."""
        return self._table("metrics", filters)

    def report(self) -> bytes:
        """Return the report, an HTML page."""
        return self._get("/report").content

    def artifacts(self) -> list[Artifact]:
        """Return the files of a job that has succeeded."""
        return [Artifact.model_validate(item) for item in self._get("/artifacts").json()]

    def download(self, path: str) -> bytes:
        """Return the content of an artifact."""
        return self._get(f"/artifacts/{path}").content

    def logs(self, offset: int | None = None) -> tuple[str, int]:
        """Return a part of the log, its end if no offset is given, and the offset of what follows."""
        answer = self._get("/logs", {} if offset is None else {"offset": str(offset)})
        return answer.content.decode(errors="replace"), int(answer.headers["X-Next-Offset"])

    def _child(self, verb: str, content: bytes | None) -> JobHandle:
        path, key = f"/jobs/{self.id}/{verb}", uuid.uuid4().hex
        answer = self._client._send("POST", path, content=content, key=key)
        return JobHandle(self._client, Job.model_validate_json(answer.content))

    def _get(
        self, path: str, params: dict[str, str] | None = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        return self._client._send("GET", f"/jobs/{self.id}{path}", params=params, headers=headers)

    def _table(self, name: str, params: dict[str, str] | None = None) -> pa.Table:
        content = self._get(f"/{name}", params, {"Accept": PARQUET}).content
        # With threads, one that still runs when a short script ends may abort it.
        return pq.read_table(io.BytesIO(content), use_threads=False)

    def __repr__(self) -> str:
        return f"JobHandle({self.id!r}, state={self.job.state!r})"


def _read_events(answer: httpx.Response) -> Iterator[JobEvent]:
    kind = ""
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data" and kind == "state":
            yield JobEvent.model_validate_json(value)


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise ServiceError(f"the service failed: {_detail(answer)}")
    if answer.is_error:
        raise RefusedError(answer.status_code, _detail(answer))
    return answer


def _detail(answer: httpx.Response) -> str:
    """Return the words of a problem."""
    try:
        found = answer.json()
        parts = [f"{part['pointer']}: {part['detail']}" for part in found.get("errors", [])]
        return "; ".join([str(found.get("detail") or found["title"]), *parts])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"HTTP {answer.status_code}"
