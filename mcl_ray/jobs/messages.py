"""Messages between the service and its clients, and the spec that the database and the driver store."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from mcl_ray.config.environment import Parallelism
from mcl_ray.jobs.states import Desired, State

API_PREFIX = "/api/v1"
Kind = Literal["train", "sweep", "table", "linear", "export", "evaluate"]
Scope = Literal["read", "submit", "admin"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}(\+[a-z0-9_]{1,40})?$")]
JobId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
RecordId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,60}(-[A-Za-z0-9_]{1,60}){0,7}$")]
FieldName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.]{0,127}$")]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:/ -]{0,64}$")]
NAMED: tuple[Kind, ...] = ("train", "sweep", "table", "linear")
SOURCED: tuple[Kind, ...] = ("linear", "export", "evaluate")


class Model(BaseModel):
    """Base of everything that is sent."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Execution(Model):
    """Workers of a job; the service knows where the data and the results are."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: Annotated[str, Field(pattern=r"^\d{1,4}(\.\.\d{1,4})?$")] | None = None
    """Workers on Ray that share every batch of a run, 2, or 1..4; null: one process trains it."""
    parallelism: Annotated[Parallelism, Field(exclude_if=lambda value: value == "data")] = "data"
    """The part of a run that several workers share: every batch, the peers, or that which sends the fewest bytes."""
    cpus_per_worker: Annotated[int, Field(ge=1, le=1024)] = 1
    gpus_per_worker: Annotated[float, Field(ge=0, le=1024)] | None = None
    readers: Annotated[int, Field(ge=0, le=256)] = 1


class JobRequest(Model):
    """A job as its owner asks for it."""

    kind: Kind
    name: Name | None = None
    """Recipe (train, linear), search (sweep) or suite (table)."""
    overrides: Annotated[dict[FieldName, JsonValue], Field(max_length=200)] = {}
    """Field → value, as on the command line: {"trials": 8, "run.losses.alpha": 0.3}."""
    execution: Execution = Execution()
    source: JobId | None = None
    """Job whose run is classified by, exported or evaluated."""
    run: RecordId | None = None
    """Run of the source; null: its only or its best one."""
    peer: Annotated[str, Field(pattern=r"^(best|ensemble|\d{1,3})$")] = "best"
    """Network that is exported."""
    label: Label = ""

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> JobRequest:
        if (self.name is None) == (self.kind in NAMED):
            raise ValueError(f"`name` is given for {', '.join(NAMED)}, and for them alone, but got kind={self.kind}")
        if self.source is None and self.kind in ("export", "evaluate"):
            raise ValueError(f"kind={self.kind} requires `source`, a job whose run is used")
        if self.source is not None and self.kind not in SOURCED:
            raise ValueError(f"`source` requires kind in {', '.join(SOURCED)}, but got kind={self.kind}")
        if self.overrides and self.kind not in NAMED:
            raise ValueError(f"`overrides` require kind in {', '.join(NAMED)}, but got kind={self.kind}")
        return self


class ExtendRequest(Model):
    """More trials for a sweep that has ended."""

    trials: Annotated[int, Field(ge=1, le=100_000)]
    """Trials beside those it has."""


class JobSpec(Model):
    """Stored spec of a job, which its driver reads."""

    request: JobRequest
    origin: JobId
    """First ancestor, whose folder holds the results."""
    source_origin: JobId | None = None
    continues: Literal["new", "retry", "extend"] = "new"
    extra_trials: int = 0
    data: str = "data"
    """Folder or store of the data sets."""

    @property
    def digest(self) -> str:
        """Hash of the request, for the metadata of Ray's record."""
        return hashlib.sha256(self.request.model_dump_json().encode()).hexdigest()[:10]


class Resolved(Model):
    """A request, checked: what would run."""

    kind: Kind
    name: str | None
    runs: int
    """Runs that are trained."""
    epochs: int
    """Epochs of each run at most."""
    spec: dict[str, Any]
    """The whole spec, with every default."""


class Job(Model):
    """A job as the service knows it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    owner: str
    kind: str
    name: str | None
    label: str
    state: State | str
    """queued → starting → running → succeeded, failed or cancelled."""
    desired: Desired | str
    attempt: int
    lost: int
    """Attempts that were lost to a failure of a machine."""
    reason: str
    """Why it failed, or what it waits for."""
    parent: str | None
    origin: str
    created: float
    """Seconds since 1970, UTC."""
    rev: int
    request: dict[str, Any] | None
    """The request; null if it cannot be read."""


class JobPage(Model):
    """Jobs, the newest first."""

    jobs: list[Job]
    next_page_token: str | None


class JobEvent(Model):
    """A change of a job's state or attempt."""

    id: int
    job: str
    state: str
    attempt: int
    reason: str
    at: float


class Session(Model):
    """Sender of a request."""

    owner: str
    scopes: list[Scope]
    dashboards: dict[str, str]
    """Name → address of the dashboards that it may open: those of Optuna and Ray, for admins."""


class Named(Model):
    """Something known by name."""

    name: str
    description: str


class Artifact(Model):
    """A file that a job wrote."""

    path: str
    bytes: int
    sha256: str


class ProblemPart(Model):
    """One broken rule of a request."""

    pointer: str
    """JSON pointer to the value."""
    detail: str


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    request_id: str = ""
    errors: list[ProblemPart] = []
