"""The application under random sequences of requests, crashes and losses; its own memory of the answers is the judge.

The database, the results and HTTP are real; Ray is a stand-in, as thousands of steps are taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
import structlog
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from api import jobs
from api.database import Database
from api.ray_jobs import RayJobs
from api.reconciler import Reconciler
from api.settings import Settings
from api.writer import Writer
from mcl_ray.jobs.claims import Attempts
from mcl_ray.jobs.states import TERMINAL
from tests.support.application import App, running
from tests.support.ray_stand_in import RayStandIn, Submission

pytestmark = pytest.mark.slow
MEMORY = "/dev/shm"
"""Folder on which a commit waits for no disk."""
PASSES_UNTIL_ALL_END = 40
CALLS_OF_A_PASS = 12
LOOKS_OF_A_PASS = 500
ROWS = sa.text("SELECT id, key, state, desired, attempt, lost, reason FROM job")


class Service(RuleBasedStateMachine):
    """Jobs of one owner, drivers that come late, a Ray that forgets, and API processes that die at any call of Ray."""

    @initialize()
    def begin(self) -> None:
        self.stack = contextlib.ExitStack()
        self.stack.enter_context(structlog.testing.capture_logs())
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if Path(MEMORY).is_dir() else None))
        self.stack.callback(shutil.rmtree, self.folder)
        self.ray = self.stack.enter_context(RayStandIn())
        self.settings = Settings(
            state=self.folder,
            address=self.ray.url,
            allow_open_ray=True,
            no_reconciler=True,
            poll_s=1e-6,
            max_running=2,
        )
        self.app: App = self.stack.enter_context(contextlib.contextmanager(running)(self.settings))
        self.headers = self.app.headers()
        self.attempts = Attempts(self.folder / "results")
        self.database = Database(self.settings.url_of_database)
        self.stack.callback(self.database.close)
        self.keys: dict[str, str | None] = {}  # → the acknowledged job
        self.ended: dict[str, tuple[str, int]] = {}
        self.latest: dict[str, int] = {}
        self.cancelled: set[str] = set()
        self.starts: list[tuple[str, int]] = []
        self.runs: list[asyncio.Task[None]] = []

    def rows(self) -> dict[str, sa.RowMapping]:
        with self.database.read_engine.connect() as connection:
            return {row["id"]: row for row in connection.execute(ROWS).mappings()}

    @precondition(lambda self: len(self.keys) < 6)
    @rule(is_answer_lost=st.booleans())
    def submit(self, is_answer_lost: bool) -> None:
        key = f"key-{len(self.keys)}"
        self.keys[key] = None
        self.send(key, is_answer_lost)

    @precondition(lambda self: self.keys)
    @rule(data=st.data())
    def submit_again(self, data: st.DataObject) -> None:
        self.send(data.draw(st.sampled_from(sorted(self.keys))), False)

    def send(self, key: str, is_answer_lost: bool) -> None:
        answer = self.app.submit(self.headers, key)
        assert answer.status_code == 202
        job = answer.json()["id"]
        assert self.keys[key] in (None, job)
        if not is_answer_lost:
            self.keys[key] = job

    @precondition(lambda self: any(self.keys.values()))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(sorted(filter(None, self.keys.values()))))
        answer = self.app.http.post(f"/api/v1/jobs/{job}/cancel", headers=self.headers)
        assert answer.status_code == 202 or (answer.status_code == 409 and self.rows()[job]["state"] in TERMINAL)
        if answer.status_code == 202:
            self.cancelled.add(job)

    @rule(calls=st.integers(1, CALLS_OF_A_PASS), when=st.sampled_from(("before", "after")))
    def reconcile(self, calls: int, when: str) -> None:
        """Run the reconciler of a process until it dies, before or after one of its calls of Ray."""
        asyncio.run(self.reconciles(calls, when))

    async def reconciles(self, calls: int, when: str) -> None:
        loop, is_over, left = asyncio.get_running_loop(), asyncio.Event(), itertools.count(calls - 1, -1)

        def on_request(moment: str) -> bool:
            if moment != when or next(left) > 0:
                return False
            loop.call_soon_threadsafe(is_over.set)
            return True

        writer, ray = Writer(self.database, 20.0), RayJobs(self.settings, str(self.folder / "results"))
        self.ray.on_request = on_request
        await writer.write(jobs.wake_all)  # as a process does when it starts
        made = Reconciler(self.database, writer, ray, self.attempts, self.settings)
        self.runs.append(asyncio.create_task(made.run()))
        looks = LOOKS_OF_A_PASS
        while not is_over.is_set() and self.is_live() and (looks := looks - 1):
            made.wake()
            await asyncio.sleep(0.002)
        died = asyncio.all_tasks() - {asyncio.current_task()}
        for task in died:
            task.cancel()
        await asyncio.gather(*died, return_exceptions=True)
        self.ray.on_request = lambda _: False
        await ray.close()
        writer.close()

    def is_live(self) -> bool:
        return any(row["state"] not in TERMINAL for row in self.rows().values())

    @precondition(lambda self: any(driver.status == "PENDING" for driver in self.ray.drivers))
    @rule(data=st.data())
    def a_driver_starts(self, data: st.DataObject) -> None:
        waiting = [driver for driver in self.ray.drivers if driver.status == "PENDING"]
        self.start(data.draw(st.sampled_from(waiting)))

    def start(self, driver: Submission) -> None:
        if self.attempts.take(driver.job, driver.attempt, "driver"):
            self.starts.append((driver.job, driver.attempt))
            driver.status = "RUNNING"
        else:
            self.end(driver, "FAILED", 75)

    @precondition(lambda self: any(driver.status == "RUNNING" for driver in self.ray.drivers))
    @rule(how=st.sampled_from(("done", "failed", "interrupted", "killed", "killed when done")), data=st.data())
    def a_driver_ends(self, how: str, data: st.DataObject) -> None:
        running = [driver for driver in self.ray.drivers if driver.status == "RUNNING"]
        self.finish(data.draw(st.sampled_from(running)), how)

    def finish(self, driver: Submission, how: str) -> None:
        if how in ("done", "killed when done"):
            self.attempts.write(driver.job, driver.attempt, "manifest", {"files": {}})
        elif how != "killed":
            self.attempts.write(driver.job, driver.attempt, "outcome", {"outcome": how, "reason": how})
        ends = {"done": ("SUCCEEDED", 0), "failed": ("FAILED", 1), "interrupted": ("FAILED", -2)}
        self.end(driver, *ends.get(how, ("FAILED", 137)))

    def end(self, driver: Submission, status: str, code: int) -> None:
        driver.status = "STOPPED" if driver.is_stopping else status
        driver.exit_code = code
        self.ray.drivers.remove(driver)

    @rule(keeps_drivers=st.booleans())
    def the_head_dies(self, keeps_drivers: bool) -> None:
        self.ray.records.clear()
        if not keeps_drivers:
            self.ray.drivers.clear()

    @rule(is_reachable=st.booleans())
    def the_network_changes(self, is_reachable: bool) -> None:
        self.ray.is_reachable = is_reachable

    @rule()
    def the_next_answer_to_a_submission_is_lost(self) -> None:
        self.ray.fails_submits = 1

    @invariant()
    def nothing_is_lost_doubled_or_regressed(self) -> None:
        rows = self.rows()
        assert len({row["key"] for row in rows.values()}) == len(rows) == len(self.keys)
        assert {job for job in self.keys.values() if job} <= set(rows)
        assert len(self.starts) == len(set(self.starts))
        for job, row in rows.items():
            assert row["attempt"] >= self.latest.get(job, 1)
            self.latest[job] = row["attempt"]
            assert self.ended.setdefault(job, (row["state"], row["attempt"])) == (row["state"], row["attempt"]) or (
                self.ended[job][0] not in TERMINAL
            )
            self.ended[job] = (row["state"], row["attempt"])
            assert not row["reason"].startswith("quarantined"), row
            self.check_end(job, row)

    def check_end(self, job: str, row: sa.RowMapping) -> None:
        is_done = self.attempts.read(job, row["attempt"], "manifest") is not None
        match row["state"]:
            case "succeeded":
                assert is_done
            case "cancelled":
                assert job in self.cancelled
                assert self.attempts.is_claimed(job, row["attempt"])

    def teardown(self) -> None:
        """Once Ray answers and drivers finish, every job ends."""
        if not hasattr(self, "stack"):
            return
        with self.stack:
            self.ray.is_reachable, self.ray.fails_submits = True, 0
            for _ in range(PASSES_UNTIL_ALL_END):
                if not self.is_live():
                    return
                self.reconcile(CALLS_OF_A_PASS, "after")
                for driver in list(self.ray.drivers):
                    if driver.status == "PENDING":
                        self.start(driver)
                    if driver.status == "RUNNING":
                        self.finish(driver, "done")
                    elif driver in self.ray.drivers:
                        self.ray.drivers.remove(driver)
                self.nothing_is_lost_doubled_or_regressed()
            raise AssertionError(f"jobs never end: {self.rows()}")


TestService = Service.TestCase
TestService.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
