"""A service as a process of its own, which can be killed, and the log of what drivers did as an independent judge."""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, Self, TypeVar

import httpx
import sqlalchemy as sa

from api import jobs, keys
from api.database import Database
from tests.support import forked
from tests.support.ports import free_port

CHECKOUT = Path(__file__).resolve().parents[2]
LIGHT_DRIVER = f"{sys.executable} {CHECKOUT / 'tests/support/light_driver.py'}"
TERMINAL = ("succeeded", "failed", "cancelled")
T = TypeVar("T")
HANGS_AFTER_S = 900
"""Time after which what waits for an event gives up."""


def wait_for(condition: Callable[[], T]) -> T:
    """The first result of `condition` that counts as true; while a server does not answer, it is asked again."""
    ends = time.monotonic() + HANGS_AFTER_S
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if found := condition():
                return found
        assert time.monotonic() < ends, "what is waited for does not happen"
        time.sleep(0.1)


def wait_until_ready(ray: RayAddress) -> None:
    """Return once a Ray has accepted a job."""
    headers, url = {"Authorization": f"Bearer {ray.token_file.read_text()}"}, f"{ray.url}/api/jobs/"
    ids = (f"warm-{time.monotonic_ns()}" for _ in itertools.count())
    body = {"entrypoint": "true"}
    wait_for(lambda: httpx.post(url, json=body | {"submission_id": next(ids)}, headers=headers, timeout=60).is_success)


class RayAddress(Protocol):
    """A Ray cluster, as a service joins it."""

    @property
    def url(self) -> str:
        """The address of the dashboard."""

    token_file: Path


@dataclass
class ServiceProcess:
    """`python -m mcl_ray.serve` beside a Ray, on a database."""

    folder: Path
    database_url: str
    ray: RayAddress
    options: list[str] = field(default_factory=list)
    driver: str = LIGHT_DRIVER
    driver_resource: str = "mcl_driver"
    port: int = field(default_factory=free_port)
    results: str = ""
    """Store of the results; a folder if empty."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables beside those of the tests."""
    is_forked: bool = True
    """Whether it begins as in `tests.support.forked`; if not, it is an interpreter of its own."""

    def __post_init__(self) -> None:
        database = Database(self.database_url)
        database.migrate()
        self.key = keys.create(database, "ada", ["read", "submit"])
        database.close()
        self.root = self.folder / "results"
        self.process: subprocess.Popen[bytes] | None = None
        headers = {"Authorization": f"Bearer {self.key}"}
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}/api/v1", headers=headers, timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        if self.process is not None and self.process.poll() is None:
            self.stop(signal.SIGKILL)

    @property
    def words(self) -> list[str]:
        """The options of `serve`."""
        return [
            f"--port={self.port}",
            f"--state={self.folder / 'state'}",
            *([] if "MCL_DATABASE_URL" in self.environment else [f"--database-url={self.database_url}"]),
            f"--results={self.results or self.root}",
            f"--address={self.ray.url}",
            f"--ray-token-file={self.ray.token_file}",
            f"--driver={self.driver}",
            f"--driver-resource={self.driver_resource}",
            "--lease-s=3",
            "--poll-s=0.3",
            "--max-running=3",
            *self.options,
        ]

    def start(self, *program: str) -> None:
        """Start the process; `program` is another script that takes the same options."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MCL_"))}
        is_forked = self.is_forked and not program
        start = partial(forked.ForkedProcess, modules=forked.SERVICE) if is_forked else subprocess.Popen
        with (self.folder / "service.log").open("ab") as log:
            self.process = start(
                [sys.executable, *(program or ("-m", "mcl_ray.serve")), *self.words],
                stdout=log,
                stderr=log,
                env=environment
                | {"PYTHONPATH": str(CHECKOUT), "XDG_CACHE_HOME": str(self.folder / "cache")}
                | self.environment,
            )

    def wait_until_ready(self) -> None:
        wait_for(lambda: self.http.get(self.http.base_url.join("/readyz")).is_success)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(HANGS_AFTER_S)

    def submit(self, label: str, key: str) -> str:
        """Send a job until it is acknowledged, and return its id."""
        body = {"kind": "sweep", "name": "digits", "label": label}

        def sent() -> str:
            answer = self.http.post("/jobs", json=body, headers={"Idempotency-Key": key})
            assert answer.status_code in (202, 503), answer.text
            return str(answer.json()["id"]) if answer.status_code == 202 else ""

        return wait_for(sent)

    def release(self) -> None:
        """Let the drivers of jobs with the label `hold` end."""
        (self.root / "released").touch()

    def job(self, job_id: str) -> dict[str, object]:
        found: dict[str, object] = self.http.get(f"/jobs/{job_id}").raise_for_status().json()
        return found

    def wait(self, job_id: str, *states: str) -> dict[str, object]:
        """Return the job once it is in one of these states; by default in a terminal one."""

        def found() -> dict[str, object]:
            job = self.job(job_id)
            return job if job["state"] in (states or TERMINAL) else {}

        return wait_for(found)

    def wait_for_driver(self, job_id: str) -> None:
        """Return once a driver has claimed the job's first attempt; Ray calls it running somewhat before."""
        wait_for(lambda: self.effects()["start", job_id, 1])

    def effects(self) -> collections.Counter[tuple[str, str, int]]:
        """What drivers did: (effect, job, attempt) → times."""
        file = self.root / "effects.log"
        lines = file.read_text().splitlines() if file.exists() else []
        parts = [line.split() for line in lines]
        return collections.Counter((effect, job, int(attempt)) for effect, job, attempt in parts)

    def check(self, expected: dict[str, str]) -> None:
        """Judge by the log: nothing lost, doubled, regressed or stuck.

        Args:
            expected: Acknowledged job → state it must end in.
        """
        for job_id, state in expected.items():
            found = self.wait(job_id)
            assert found["state"] == state, found
        effects = self.effects()
        assert all(times == 1 for (effect, _, _), times in effects.items() if effect in ("start", "done")), effects
        done = collections.Counter(job for effect, job, _ in effects if effect == "done")
        for job_id, state in expected.items():
            assert (state != "succeeded") or done[job_id] >= 1, job_id
            states = [event["state"] for event in self.events(job_id)]
            assert [s for s in states if s in TERMINAL] == states[-1:], states

    def events(self, job_id: str) -> list[dict[str, object]]:
        database = Database(self.database_url)
        rows = [dict(row._mapping) for row in jobs.events(database, job_id, 0)]
        database.close()
        return rows


class KilledPostgres:
    """A PostgreSQL of `tests.support.postgres`, crashed; `start` lets it recover."""

    def __init__(self, url: str) -> None:
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            self._data = Path(str(connection.scalar(sa.text("SHOW data_directory"))))
            self._programs = Path(
                str(connection.scalar(sa.text("SELECT setting FROM pg_config WHERE name = 'BINDIR'")))
            )
        engine.dispose()
        self._port = sa.make_url(url).port
        process = int((self._data / "postmaster.pid").read_text().split()[0])
        os.kill(process, signal.SIGQUIT)  # every process of the server ends at once, with nothing written
        while Path(f"/proc/{process}").exists():
            time.sleep(0.05)

    def start(self) -> None:
        options = f"-p {self._port} -k {self._data.parent} -c fsync=off"
        command = [str(self._programs / "pg_ctl"), "-D", str(self._data), "-w", "-l", str(self._data.parent / "log")]
        user = "postgres" if os.geteuid() == 0 else None
        subprocess.run(
            [*command, "-o", options, "-t", str(HANGS_AFTER_S), "start"],
            user=user, cwd=self._data.parent, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
