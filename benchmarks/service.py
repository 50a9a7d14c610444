"""Benchmark of the service, beside a bare FastAPI application that commits once for each request.

    python -m benchmarks.service [CASE …] [--databases sqlite postgresql] [--repeats 5] [--seconds 3]

Prints one JSON line for each case and database: `rates` (submitting and reading a job, in turns with the bare
application), `pages` (among 100,000 jobs and among 1,000), `streams` (500 event streams, 50 of them stalled), `logs`
(1 GB read), `start` (memory when idle, and the time after SIGKILL until it is ready and has looked at every job; with a
real Ray). Everything, the load included, shares two processors; keys are required, and commits are durable.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from api import keys
from api.database import IS_LIVE, Database, event, job
from benchmarks.http_load import Connection, Load, Request, measure
from benchmarks.record import print_line, ratios
from benchmarks.server_process import NO_RAY, ServerProcess
from mcl_ray.jobs.claims import Attempts
from mcl_ray.jobs.messages import JobRequest, JobSpec
from tests.support.postgres import postgres
from trainables.cluster.local_ray import DRIVER_RESOURCE, LocalRay

CORES = 2
CONNECTIONS = 16
PAGES = 1000
OWNERS = 64
"""Owners, each with a key, that requests take turns with."""
JOBS = "/api/v1/jobs"
MIB = 2**20
SPEC = JobSpec(request=JobRequest(kind="sweep", name="digits"), origin="0" * 32)


class Setting(NamedTuple):
    """Parts of a case: an empty database for the service, one for the bare application, a folder, and keys."""

    database: Database
    bare_url: str
    folder: Path
    keys: list[str]
    repeats: int
    seconds: float


def rates(setting: Setting) -> dict[str, object]:
    """Return rates and times of submitting and of reading a job, as ratios to those of the bare application."""
    with (
        ServerProcess.of_service(setting.folder, str_of(setting.database)) as service,
        ServerProcess.of_bare(setting.folder, setting.bare_url) as bare,
    ):
        return asyncio.run(_rates(setting, service, bare))


class Turn(NamedTuple):
    """Load of a server, and the processor time that one request took of it."""

    load: Load
    cpu_s: float


async def _rates(setting: Setting, service: ServerProcess, bare: ServerProcess) -> dict[str, object]:
    seeds = itertools.count()

    def submission(path: str) -> Request:
        seed = next(seeds)
        body = {"kind": "train", "name": "digits", "overrides": {"seed": seed}}
        return Request("POST", path, setting.keys[seed % OWNERS], json.dumps(body).encode(), 202)

    async def reading(server: ServerProcess, path: str) -> Callable[[], Request]:
        connection = await Connection(server.port).open()
        sent = [submission(path) for _ in range(OWNERS)]
        ids = [json.loads(await connection.call(one))["id"] for one in sent]
        connection.close()
        requests = [Request("GET", f"{path}/{found}", one.key) for found, one in zip(ids, sent, strict=True)]
        return itertools.cycle(requests).__next__

    submits = await _in_turns(setting, (service, lambda: submission(JOBS)), (bare, lambda: submission("/jobs")))
    reads = await _in_turns(setting, (service, await reading(service, JOBS)), (bare, await reading(bare, "/jobs")))
    return {"connections": CONNECTIONS, "submit": _compared(*submits), "get": _compared(*reads)}


async def _in_turns(setting: Setting, *sides: tuple[ServerProcess, Callable[[], Request]]) -> tuple[list[Turn], ...]:
    turns: tuple[list[Turn], ...] = tuple([] for _ in sides)
    for _ in range(setting.repeats):
        for (server, next_request), found in zip(sides, turns, strict=True):
            before = server.cpu_s()
            load = await measure(server.port, next_request, connections=CONNECTIONS, seconds=setting.seconds)
            found.append(Turn(load, (server.cpu_s() - before) / load.num_requests))
    return turns


def _compared(ours: Sequence[Turn], bare: Sequence[Turn]) -> dict[str, object]:
    return {
        "rate_ratio": ratios([one.load.rate for one in ours], [one.load.rate for one in bare]),
        "p99_ratio": ratios([one.load.p99_s for one in ours], [one.load.p99_s for one in bare]),
        "cpu_ratio": ratios([one.cpu_s for one in ours], [one.cpu_s for one in bare]),
        "per_s": round(statistics.median(one.load.rate for one in ours)),
        "p99_ms": round(1000 * statistics.median(one.load.p99_s for one in ours), 1),
        "cpu_ms": round(1000 * statistics.median(one.cpu_s for one in ours), 2),
    }


def pages(setting: Setting) -> dict[str, object]:
    """Return the time of a page of 100 at three depths of 100,000 jobs, as ratios to one among 1,000."""
    for owner, count in (("owner0", 100_000), ("owner1", 1_000)):
        insert_jobs(setting.database, owner, count, state="succeeded")
    with ServerProcess.of_service(setting.folder, str_of(setting.database)) as service:
        many, few = asyncio.run(_pages(setting, service.port))
    third, ratio = PAGES // 3, dict[str, float]()
    for number, depth in enumerate(("newest", "middle", "oldest")):
        part = slice(number * third, (number + 1) * third)  # each page was read beside one among 1,000
        ratio[depth] = round(statistics.median(many[part]) / statistics.median(few[part]), 3)
    return {"ms_among_1000": round(1000 * statistics.median(few), 2), "ratio": ratio}


async def _pages(setting: Setting, port: int) -> tuple[list[float], list[float]]:
    connection = await Connection(port).open()
    walks = [_walk(connection, key) for key in setting.keys[:2]]
    times = [[await anext(walk) for walk in walks] for _ in range(PAGES)]
    connection.close()
    many, few = zip(*times, strict=True)
    return list(many), list(few)


async def _walk(connection: Connection, key: str) -> AsyncIterator[float]:
    """Yield the time of each page of an owner's jobs, from the newest to the oldest, and again."""
    token = ""
    while True:
        begins = time.perf_counter()
        answer = await connection.call(Request("GET", f"{JOBS}?page_size=100{token}", key))
        yield time.perf_counter() - begins
        following = json.loads(answer)["next_page_token"]
        token = f"&page_token={following}" if following else ""


def streams(setting: Setting) -> dict[str, object]:
    """Return the memory that 500 event streams take, of which 50 are never read, and whether each event arrived."""
    owners = [f"owner{number}" for number in range(10)]
    ids = [insert_jobs(setting.database, owner, 1)[0] for owner in owners]
    with ServerProcess.of_service(setting.folder, str_of(setting.database), NO_RAY, "--no-reconciler") as service:
        asyncio.run(_warm(service.port, setting.keys[0]))
        before = service.memory_bytes()
        service.forget_peak()
        found = asyncio.run(_streams(setting, service.port, ids))
        return found | {"added_mib": round((service.memory_bytes(peak=True) - before) / MIB, 1)}


async def _streams(
    setting: Setting, port: int, ids: list[str], *, each: int = 50, events: int = 200
) -> dict[str, object]:
    readers, stalled = list[Connection](), list[Connection]()
    for number, job_id in enumerate(ids):
        for index in range(each):
            connection = await Connection(port).open()
            connection.send(Request("GET", f"{JOBS}/{job_id}/events", setting.keys[number]))
            (stalled if index < each // 10 else readers).append(connection)
    for connection in readers:
        await connection.head()
    for job_id in ids:
        await asyncio.to_thread(insert_events, setting.database, job_id, events)
    seen = await asyncio.gather(*(_events_until_end(connection) for connection in readers))
    for connection in (*readers, *stalled):
        connection.close()
    return {"readers": len(readers), "stalled": len(stalled), "events": events, "complete": seen.count(events)}


async def _events_until_end(connection: Connection) -> int:
    """Return how many events a stream has until its job has ended."""
    count = 0
    while True:
        line = await connection.reader.readline()
        count += line.startswith(b"data:")
        if line.startswith(b"data:") and b'"failed"' in line:
            return count


def logs(setting: Setting) -> dict[str, object]:
    """Return the memory that reading a log of 1 GB takes: its end, and then all of it in parts of 1 MiB."""
    (job_id,) = insert_jobs(setting.database, "owner0", 1)
    path = setting.folder / "results" / "jobs" / job_id / "a1.log"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(2**30)
    with ServerProcess.of_service(setting.folder, str_of(setting.database), NO_RAY, "--no-reconciler") as service:
        asyncio.run(_warm(service.port, setting.keys[0]))
        before = service.memory_bytes()
        service.forget_peak()
        count = asyncio.run(_read_log(service.port, f"{JOBS}/{job_id}/logs?count={MIB}", setting.keys[0]))
        return {"read_bytes": count, "added_mib": round((service.memory_bytes(peak=True) - before) / MIB, 1)}


async def _read_log(port: int, path: str, key: str) -> int:
    connection = await Connection(port).open()
    count = len(await connection.call(Request("GET", path, key)))
    while part := await connection.call(Request("GET", f"{path}&offset={count - MIB}", key)):
        count += len(part)
    connection.close()
    return count - MIB


async def _warm(port: int, key: str) -> None:
    """Send what a client sends first, so that its memory is not counted."""
    connection = await Connection(port).open()
    for _ in range(50):
        await connection.call(Request("GET", JOBS, key))
    connection.close()


def start(setting: Setting, *, live: int = 100) -> dict[str, object]:
    """Return the memory of an idle service, and the times after SIGKILL until it is ready and has looked at every job.

    The drivers of these jobs failed while it was away.
    """
    ray = LocalRay(setting.folder / "ray")
    (setting.folder / "ray").mkdir()
    ray.start()
    options = [f"--address={ray.url}", f"--ray-token-file={ray.token_file}", f"--driver-resource={DRIVER_RESOURCE}"]
    service = ServerProcess.of_service(setting.folder, str_of(setting.database), *options)
    ready, looked, idle = list[float](), list[float](), list[float]()
    attempts = Attempts(setting.folder / "results")
    try:
        with service:
            service.wait_for("/readyz")
            for _ in range(setting.repeats):
                service.kill()
                for job_id in insert_jobs(setting.database, "owner0", live, state="running"):
                    attempts.take(job_id, 1, "driver")
                    attempts.write(job_id, 1, "outcome", {"outcome": "failed", "reason": "as asked for"})
                begins = time.perf_counter()
                service.start()
                service.wait_for("/readyz")
                ready.append(time.perf_counter() - begins)
                while setting.database.read(sa.select(job.c.id).where(IS_LIVE).limit(1)):
                    time.sleep(0.05)
                looked.append(time.perf_counter() - begins)
                idle.append(service.memory_bytes() / MIB)
    finally:
        ray.stop()
    figures = {"ready_s": ready, "looked_at_s": looked, "idle_mib": idle}
    worst = {
        name: {"median": round(statistics.median(each), 2), "max": round(max(each), 2)}
        for name, each in figures.items()
    }
    return {"live_jobs": live, **worst}


def insert_jobs(database: Database, owner: str, count: int, *, state: str = "queued") -> list[str]:
    """Add jobs to the database, and return their ids."""
    now, rows = time.time(), []
    for number in range(count):
        name = uuid.uuid4().hex
        values = {"id": name, "owner": owner, "key": name, "body_hash": "", "kind": "sweep", "state": state, "due": 0.0}
        rows.append(values | {"spec": SPEC.model_dump_json(), "origin": name, "created": now - count + number})
    with database.write_engine.begin() as connection:
        connection.execute(sa.insert(job), rows)
    return [str(row["id"]) for row in rows]


def insert_events(database: Database, job_id: str, count: int) -> None:
    """Add events to a job, the last of which is its end."""
    rows = [
        {"job": job_id, "state": "running" if number < count else "failed", "attempt": number, "at": time.time()}
        for number in range(1, count + 1)
    ]
    with database.write_engine.begin() as connection:
        connection.execute(sa.insert(event), rows)


def str_of(database: Database) -> str:
    """Return the URL of a database with its password."""
    return database.url.render_as_string(hide_password=False)


@contextmanager
def _setting(server: str | None, asked: argparse.Namespace) -> Iterator[Setting]:
    """Provide new databases, SQLite's or those of a PostgreSQL server."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if server is None:
            urls = [f"sqlite:///{folder / one}.db" for one in ("jobs", "bare")]
        else:
            urls = [_new_database(server) for _ in range(2)]
        database = Database(urls[0])
        database.migrate()
        made = [keys.create(database, f"owner{number}", ("read", "submit")) for number in range(OWNERS)]
        yield Setting(database, urls[1], folder, made, asked.repeats, asked.seconds)
        database.close()


def _new_database(server: str) -> str:
    engine, name = sa.create_engine(server, isolation_level="AUTOCOMMIT"), f"b{uuid.uuid4().hex}"
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return sa.make_url(server).set(database=name).render_as_string(hide_password=False)


CASES: dict[str, Callable[[Setting], dict[str, object]]] = {
    function.__name__: function for function in (rates, pages, streams, logs, start)
}
MEASURED = {"pages": PAGES, "streams": 1, "logs": 1}
"""Measurements of the cases that do not take the number of repetitions."""


def main() -> None:
    """Measure the cases on the databases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    asked = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])  # and so every process that this one starts
    for name in asked.databases:
        with postgres(fsync="on") if name == "postgresql" else nullcontext() as server:
            for case in asked.cases:
                with _setting(server, asked) as setting:
                    n = MEASURED.get(case, asked.repeats)
                    print_line("service", {"case": case, "database": name, **CASES[case](setting)}, n=n)


if __name__ == "__main__":
    main()
