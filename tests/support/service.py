"""A service as a process of its own, which can be killed, and the log of what drivers did as an independent judge."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

import httpx
import sqlalchemy as sa

from api import jobs, keys
from api.database import Database
from tests.support.ports import free_port

CHECKOUT = Path(__file__).resolve().parents[2]
LIGHT_DRIVER = f"{sys.executable} {CHECKOUT / 'tests/support/light_driver.py'}"
TERMINAL = ("succeeded", "failed", "cancelled")
HANGS_AFTER_S = 600
"""Time after which what waits for an event gives up."""


def wait_until_ready(ray: RayAddress) -> None:
    """Return once a Ray has accepted a job."""
    headers = {"Authorization": f"Bearer {ray.token_file.read_text()}"}
    ends = time.monotonic() + HANGS_AFTER_S
    while True:
        try:
            body = {"entrypoint": "true", "submission_id": f"warm-{time.monotonic_ns()}"}
            if httpx.post(f"{ray.url}/api/jobs/", json=body, headers=headers, timeout=60).is_success:
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < ends, "Ray does not start"
        time.sleep(1)


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
        with (self.folder / "service.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *(program or ("-m", "mcl_ray.serve")), *self.words],
                stdout=log,
                stderr=log,
                env=environment
                | {"PYTHONPATH": str(CHECKOUT), "XDG_CACHE_HOME": str(self.folder / "cache")}
                | self.environment,
            )

    def wait_until_ready(self, deadline_s: float = HANGS_AFTER_S) -> None:
        ends = time.monotonic() + deadline_s
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if self.http.get(self.http.base_url.join("/readyz")).is_success:
                    return
            assert time.monotonic() < ends, "the service does not become ready"
            time.sleep(0.3)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(HANGS_AFTER_S)

    def submit(self, label: str, key: str, deadline_s: float = HANGS_AFTER_S) -> str:
        """Send a job until it is acknowledged, and return its id."""
        body = {"kind": "sweep", "name": "digits", "label": label}
        ends = time.monotonic() + deadline_s
        while True:
            try:
                answer = self.http.post("/jobs", json=body, headers={"Idempotency-Key": key})
                if answer.status_code == 202:
                    return str(answer.json()["id"])
                assert answer.status_code == 503, answer.text
            except httpx.TransportError:
                pass
            assert time.monotonic() < ends, "the service never answered"
            time.sleep(0.1)

    def job(self, job_id: str) -> dict[str, object]:
        found: dict[str, object] = self.http.get(f"/jobs/{job_id}").raise_for_status().json()
        return found

    def wait(self, job_id: str, *states: str, deadline_s: float = HANGS_AFTER_S) -> dict[str, object]:
        """Return the job once it is in one of these states; by default in a terminal one."""
        ends = time.monotonic() + deadline_s
        while True:
            try:
                found = self.job(job_id)
                if found["state"] in (states or TERMINAL):
                    return found
            except httpx.HTTPError:
                found = {}
            assert time.monotonic() < ends, f"the job hangs: {found}"
            time.sleep(0.2)

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
            [*command, "-o", options, "start"], user=user, cwd=self._data.parent, check=True, stdout=subprocess.DEVNULL
        )
