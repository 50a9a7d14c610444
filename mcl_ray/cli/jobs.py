"""The commands that drive a service: `mcl submit digits trials=8 --server http://host:8080`, and those that follow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from mcl_ray.cli import app
from mcl_ray.config import yaml12
from mcl_ray.config.environment import Parallelism
from mcl_ray.errors import SpecError, TrainingError

if TYPE_CHECKING:
    from mcl_ray.client import Client, JobHandle

DEFAULT_SERVER = "http://127.0.0.1:8080"
Server = Annotated[str, Parameter(env_var="MCL_SERVER", help="Address of the service; its API key is in MCL_API_KEY.")]
JobKind = Literal["train", "sweep", "table", "linear", "export", "evaluate"]


def submit(
    kind: JobKind,
    name: str | None = None,
    /,
    *overrides: Annotated[str, Parameter(help=app.OVERRIDES_HELP)],
    server: Server = DEFAULT_SERVER,
    workers: str | None = None,
    parallelism: Parallelism = "data",
    cpus_per_worker: int = 1,
    gpus_per_worker: float | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    source: Annotated[str | None, Parameter(name="--from")] = None,
    run: str | None = None,
    peer: str = "best",
    label: str = "",
    key: str | None = None,
    wait: bool = False,
    dry_run: bool = False,
) -> None:
    """Submit a job, and print its id.

    Args:
        kind: What the job does: train, sweep, table, linear, export or evaluate.
        name: Recipe (train, linear), search (sweep) or suite (table).
        workers: Workers on Ray that share every batch of a run, 2, or 1..4.
        parallelism: The part of a run that several workers share: data, cohort or auto.
        cpus_per_worker: CPU cores of one worker.
        gpus_per_worker: GPUs of one worker.
        device: auto, cpu or cuda.
        source: Job whose run is classified by, exported or evaluated.
        run: Run of the source; its best one if not given.
        peer: Network that is exported: a peer's number, best or ensemble.
        label: Label to find the job by.
        key: Idempotency key: the same key gives the same job, however often it is sent.
        wait: Wait for the end of the job, and exit with 1 unless it succeeded.
        dry_run: Print the resolved spec, and submit nothing.
    """
    fields = _values(overrides)
    with _client(server) as client:
        if dry_run:
            resolved = client.validate(name, kind=kind, **fields)
            app.stdout().print(yaml12.inline(resolved.model_dump(mode="json")), soft_wrap=True)
            return
        execution = {"workers": workers, "parallelism": parallelism, "cpus_per_worker": cpus_per_worker}
        job = client.submit(
            name,
            kind=kind,
            overrides=fields,
            execution=execution | {"gpus_per_worker": gpus_per_worker, "device": device},
            source=source,
            run=run,
            peer=peer,
            label=label,
            idempotency_key=key,
        )
        app.stdout().print(job.id)
        if wait:
            _check_succeeded(job.wait())


def jobs(
    *,
    server: Server = DEFAULT_SERVER,
    state: str | None = None,
    kind: str | None = None,
    owner: str | None = None,
    label: str | None = None,
    count: Annotated[int, Parameter(validator=app.at_least_one)] = 50,
) -> None:
    """List jobs, the newest first.

    Args:
        state: Only those in this state.
        kind: Only those of this kind.
        owner: Only those of this owner.
        label: Only those with this label.
        count: Jobs to print at most.
    """
    from itertools import islice

    from rich.table import Table

    given = {"state": state, "kind": kind, "owner": owner, "label": label}
    table = Table("job", "kind", "name", "state", "attempt", "owner", "label", "created", box=None, pad_edge=False)
    with _client(server) as client:
        for job in islice(client.jobs(**{name: value for name, value in given.items() if value}), count):
            created = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.created))
            table.add_row(job.id, job.kind, job.name or "", job.state, str(job.attempt), job.owner, job.label, created)
    app.stdout().print(table)


def status(job: str, /, *, server: Server = DEFAULT_SERVER) -> None:
    """Print all that is known of a job.

    Args:
        job: Its id.
    """
    with _client(server) as client:
        found = client.job(job).job.model_dump(mode="json")
    for name, value in found.items():
        app.stdout().print(f"{name}: {yaml12.inline(value)}", soft_wrap=True)


def watch(job: str, /, *, server: Server = DEFAULT_SERVER) -> None:
    """Print the changes of a job's state until it has ended; exit with 1 unless it succeeded.

    Args:
        job: Its id.
    """
    with _client(server) as client:
        handle = client.job(job)
        for event in handle.events():
            reason = f": {event.reason}" if event.reason else ""
            app.stdout().print(f"{event.state}, attempt {event.attempt}{reason}", soft_wrap=True)
        _check_succeeded(handle.wait())


def logs(job: str, /, *, server: Server = DEFAULT_SERVER, follow: bool = False) -> None:
    """Print the log of a job.

    Args:
        job: Its id.
        follow: Continue until the job has ended.
    """
    from mcl_ray.jobs.states import TERMINAL

    with _client(server) as client:
        handle, offset = client.job(job), 0
        while True:
            has_ended = handle.refresh().state in TERMINAL
            text, following = handle.logs(offset)
            app.stdout().out(text, end="", highlight=False)
            if following == offset:
                if has_ended or not follow:
                    return
                time.sleep(1.0)
            offset = following


def cancel(job: str, /, *, server: Server = DEFAULT_SERVER) -> None:
    """Ask for the end of a job.

    Args:
        job: Its id.
    """
    with _client(server) as client:
        app.stdout().print(client.job(job).cancel().state)


def retry(job: str, /, *, server: Server = DEFAULT_SERVER) -> None:
    """Submit a job that continues one which failed or was cancelled, and print its id.

    Args:
        job: Id of the job that failed or was cancelled.
    """
    with _client(server) as client:
        app.stdout().print(client.job(job).retry().id)


def extend(
    job: str,
    /,
    *,
    trials: Annotated[int, Parameter(validator=app.at_least_one)],
    server: Server = DEFAULT_SERVER,
) -> None:
    """Submit a job that gives more trials to a sweep which has ended, and print its id.

    Args:
        job: Id of the sweep's job.
        trials: Trials beside those it has.
    """
    with _client(server) as client:
        app.stdout().print(client.job(job).extend(trials).id)


def save_report(server: str, job: str, out: Path) -> None:
    """Save the report of a job as one HTML page."""
    with _client(server) as client:
        content = client.job(job).report()
    out.write_bytes(content)
    app.stdout().print(f"wrote {out}", soft_wrap=True)


@contextmanager
def _client(server: str) -> Iterator[Client]:
    from mcl_ray.client import Client

    with Client(server) as client:
        yield client


def _values(overrides: tuple[str, ...]) -> dict[str, object]:
    """Return `field=value` strings as fields and values; the service knows which fields there are."""
    values: dict[str, object] = {}
    for assignment in overrides:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise SpecError(f"an override has the form field=value, but got {assignment!r}")
        values[name] = yaml12.load(text)
    return values


def _check_succeeded(handle: JobHandle) -> None:
    if handle.job.state != "succeeded":
        reason = f": {handle.job.reason}" if handle.job.reason else ""
        raise TrainingError(f"job {handle.id} {handle.job.state}{reason}")
