"""Campaign on the service: kills its API processes, and on the cluster drivers, workers, the node and the head.

The drivers train nothing, so that there are many; Ray, databases and processes are real. API processes are forked from
one that has imported the program, which makes a kill cheap: a new one serves within some 0.3 s.
"""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from benchmarks.campaign import service_judge
from benchmarks.campaign.findings import Campaign
from benchmarks.campaign.plan import kinds_of, pause_s
from benchmarks.campaign.service_load import Load
from tests.support.postgres import postgres
from tests.support.service import ServiceProcess, wait_until_ready
from trainables.cluster.local_ray import LocalRay

SHARES = {"driver": 0.1, "worker": 0.05, "agent": 0.004, "node": 0.004, "head": 0.004}
"""Part of the kills; the rest are of API processes. The last three end the node, and a new one takes 10 to 20 s."""
PROCESSES = {"sqlite": 1, "postgresql": 3}
MEAN_PAUSE_S = {"sqlite": 0.9, "postgresql": 0.4}
VICTIM_WITHIN_S = 10.0
"""Time for which a kill waits for a process of its kind, as a driver that starts; meanwhile nothing else is killed."""
ENDS_WITHIN_S = 900.0
"""Time after the last kill in which every job has to end."""
OPTIONS = ["--max-lost=1000"]
"""No number of kills fails a job here, so that a failed one is a finding."""
PRELOADED = ["alembic.command", "alembic.config", "api.app", "mcl_ray.cli.serve", "psycopg", "sqlite3", "uvicorn"]


class ForkedService(ServiceProcess):
    """An API process, forked from one that has imported the program."""

    forked: ForkServerProcess | None = None

    def fork(self) -> None:
        """Start the process."""
        context: ForkServerContext = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self.forked = context.Process(target=_serve, args=(self.words, self.folder / "service.log"))
        self.forked.start()

    def kill(self) -> None:
        """Kill the process, which must not have ended by itself."""
        assert self.forked is not None, "it was started"
        assert self.forked.is_alive(), f"an API process ended by itself: {self.folder / 'service.log'}"
        self.forked.kill()
        self.forked.join()

    def __exit__(self, *_: object) -> None:
        if self.forked is not None:
            self.forked.kill()
            self.forked.join()
        self.http.close()


def _serve(words: list[str], log: Path) -> None:
    descriptor = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o640)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    from mcl_ray.cli.serve import command

    command(words)


def run_on(kind: str, kills: int, seed: int, stop: threading.Event) -> Campaign:
    """Run the campaign on a new database of a kind, with a Ray of its own; `stop` ends the kills early."""
    folder = Path(tempfile.mkdtemp(prefix="mcl-campaign-"))
    ray = LocalRay(folder)
    ray.start()
    try:
        wait_until_ready(ray)
        with _database(kind, folder) as url:
            found = run(url, ray, folder, kills, seed, stop)
    finally:
        ray.stop()
    if found.findings.is_clean:
        shutil.rmtree(folder)
    else:
        _print(f"the logs are in {folder}")
    return found


@contextlib.contextmanager
def _database(kind: str, folder: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'jobs.db'}"
        return
    with postgres() as url:
        yield url


def run(
    database_url: str, ray: LocalRay, folder: Path, kills: int, seed: int, stop: threading.Event | None = None
) -> Campaign:
    """Kill processes of a service under load, and judge what is left.

    Args:
        database_url: An empty database.
        ray: A Ray that accepts jobs.
        folder: Folder of the service's files, and of the logs of client and drivers.
        kills: Number of kills.
        seed: Source of what is killed when.
        stop: Ends the kills before their number.
    """
    kind, started = database_url.partition(":")[0].partition("+")[0], time.monotonic()
    moments = random.Random(seed)  # noqa: S311  # repeatable
    _print(f"{kind}: {kills} kills, seed {seed}")
    with contextlib.ExitStack() as stack:
        services = [
            stack.enter_context(ForkedService(folder, database_url, ray, OPTIONS)) for _ in range(PROCESSES[kind])
        ]
        for service in services:
            service.fork()
        load = Load([str(one.http.base_url) for one in services], services[0].key, folder / "answers.jsonl", seed)
        stack.callback(load.close)
        kinds = kinds_of(kills, SHARES, "api", moments)
        killed = _kill(services, ray, kinds, MEAN_PAUSE_S[kind], moments, stop or threading.Event())
        load.stop()
        deadline = time.monotonic() + ENDS_WITHIN_S
        while load.num_live and time.monotonic() < deadline:
            time.sleep(0.5)
    if load.failures:
        raise load.failures[0]
    evidence = service_judge.collect(folder / "answers.jsonl", folder / "results", database_url)
    findings = service_judge.judge(evidence)
    if load.num_errors:
        findings.lost.append(f"{load.num_errors} answers were errors of the service other than 503")
    figures = {
        "database": kind,
        "seed": seed,
        "kills": killed.total(),
        "kinds": dict(sorted(killed.items())),
        "jobs": load.num_accepted,
        "attempts": sum(effect == "start" for effect, _, _ in evidence.effects),
        "cancelled": sum(row["state"] == "cancelled" for row in evidence.rows.values()),
        "answers": load.num_answers,
        "minutes": round((time.monotonic() - started) / 60, 1),
        **findings.figures,
    }
    return Campaign(findings, figures)


def _kill(
    services: list[ForkedService],
    ray: LocalRay,
    kinds: list[str],
    mean_s: float,
    moments: random.Random,
    stop: threading.Event,
) -> collections.Counter[str]:
    """Kill one process after the other; a kind of which none starts in time comes later."""
    killed: collections.Counter[str] = collections.Counter()
    while kinds and not stop.wait(pause_s(mean_s, moments)):
        kind = kinds.pop()
        if kind == "api":
            service = moments.choice(services)
            service.kill()
            service.fork()
        elif not _kill_one_of(ray, kind, moments):
            kinds.insert(0, kind)
            continue
        killed[kind] += 1
        if killed.total() % 50 == 0:
            _print(f"{killed.total()} kills: {dict(killed)}")
    return killed


def _kill_one_of(ray: LocalRay, kind: str, moments: random.Random) -> bool:
    """Kill a process of Ray, at a random moment of its life; return whether there was one."""
    deadline = time.monotonic() + VICTIM_WITHIN_S
    while time.monotonic() < deadline:
        if found := sorted(processes_of(ray, kind)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(moments.choice(found), signal.SIGKILL)
                return True
        time.sleep(moments.uniform(0, 0.3))
    return False


def processes_of(ray: LocalRay, kind: str) -> Iterator[int]:
    """Yield the processes of a kind.

    `driver`: of a job. `worker`: of Ray, as a job's supervisor. `agent`: the node's agents. `node`: the raylet. `head`:
    the GCS, with the job table.
    """
    for process in ray.processes():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
            name = Path(words[0].decode(errors="replace")).name
            is_driver = name.startswith("python") and any(word.endswith(b"light_driver.py") for word in words[1:2])
            is_kind = {
                "driver": is_driver,
                "worker": words[0].startswith(b"ray::") and b"Agent" not in words[0],
                "agent": words[0].startswith(b"ray::") and b"Agent" in words[0],
                "node": name == "raylet",
                "head": name == "gcs_server",
            }
            if is_kind[kind]:
                yield process


def _print(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
