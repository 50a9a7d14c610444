"""The loop that brings jobs and Ray into agreement: it leases due jobs, looks, decides by `state.step`, and acts.

It may be killed after any line, and several processes may run it on one database: leases keep them apart, and `rev`
lets one of two that stepped on the same job write.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import sqlalchemy as sa
import structlog

from api import jobs
from api.database import Database
from api.jobs import Row
from api.monitoring import ATTEMPTS, LOST, STEPS
from api.ray_jobs import RayError, RayJobs
from api.settings import Settings
from api.state import Evidence, Step, step
from api.writer import Write, Writer
from mcl_ray.jobs.claims import Attempts
from mcl_ray.jobs.messages import JobSpec
from mcl_ray.jobs.states import LIVE

AT_ONCE = 16
"""Jobs that are looked at concurrently."""
IDLE_S = 0.25
"""Pause between two looks at the database."""
SHORTEST_S = 0.1
"""Pause after it was woken, so that many submissions do not mean as many looks."""
QUARANTINE_S = 3600.0
"""Time until a row that cannot be understood is looked at again."""
CLOCK_STEP_S = 1.0
"""Step back of the clock from which on it is no slow correction."""
TRANSIENT = (RayError, OSError, TimeoutError, sa.exc.OperationalError)

log = structlog.get_logger()


class Reconciler:
    """Steps on the due jobs of a database until it is cancelled."""

    def __init__(
        self, database: Database, writer: Writer, ray: RayJobs, attempts: Attempts, settings: Settings
    ) -> None:
        self._database, self._writer, self._ray = database, writer, ray
        self._attempts, self._settings = attempts, settings
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_woken = asyncio.Event()
        self._clock = _clock()

    def wake(self) -> None:
        """Look at the database at once."""
        self._is_woken.set()

    async def run(self) -> None:
        """Step on due jobs without end."""
        while True:
            free = AT_ONCE - len(self._tasks)
            try:
                await self._follow_clock()
                rows = await self._writer.write(self._claim(free)) if free else []
            except Exception as error:  # the database is away: nothing is lost by asking again
                log.warning("claim_failed", error=_words(error))
                rows = []
            for row in rows:
                task = asyncio.create_task(self._step(row))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            with contextlib.suppress(TimeoutError):  # `wait_for` of Python 3.11 may swallow a cancellation
                async with asyncio.timeout(IDLE_S):
                    await self._is_woken.wait()
                await asyncio.sleep(SHORTEST_S)
            self._is_woken.clear()

    async def _follow_clock(self) -> None:
        """Look at every job within a lease after the clock has jumped back, instead of when it is as late again."""
        before, now = self._clock, _clock()
        if now < before - CLOCK_STEP_S:
            log.warning("clock_stepped_back", seconds=round(before - now))
            await self._writer.write(jobs.limit_due(self._settings.lease_s))
        self._clock = now

    def _claim(self, count: int) -> Write[list[Row]]:
        settings = self._settings
        return jobs.claim_due(self._database, count=count, lease_s=settings.lease_s, max_running=settings.max_running)

    async def _step(self, row: Row) -> None:
        """Look at one job, act at most once, and record what follows."""
        with structlog.contextvars.bound_contextvars(job=row.id, attempt=row.attempt):
            try:
                values = await self._decide(row)
            except Exception as error:
                values = self._postponed(row, error)
            try:
                if await self._writer.write(jobs.record(row, values)) and values.get("state", row.state) != row.state:
                    log.info("job_changed", state=values["state"], reason=values.get("reason", ""))
            except Exception as error:  # its lease ends by itself
                log.warning("record_failed", error=_words(error))

    async def _decide(self, row: Row) -> dict[str, Any]:
        if row.state not in LIVE or row.desired not in ("run", "cancelled") or not isinstance(row.attempt, int):
            raise ValueError(f"a job's row must be readable, but got {row.state}, {row.desired}, {row.attempt}")
        evidence = await self._evidence(row)
        decision = step(row.state, row.desired, row.lost, evidence, max_lost=self._settings.max_lost)
        decision = await self._act(row, decision)
        STEPS.labels(decision.effect).inc()
        poll = self._settings.poll_s
        if decision.effect == "wait":
            return {"reason": decision.reason, "due": time.time() + 2 * poll}
        values: dict[str, Any] = {"reason": decision.reason, "due": time.time() + poll}
        if decision.state is not None:
            values["state"] = decision.state
        if decision.next_attempt:
            values |= {"attempt": row.attempt + 1, "due": time.time() + (poll if decision.lost else 0)}
        if decision.lost:
            LOST.inc()
            values["lost"] = row.lost + 1
        return values

    async def _evidence(self, row: Row) -> Evidence:
        """Return what is known of the current attempt.

        Ray is asked first: a driver writes its claim, its outcome and its manifest before it ends, so that whatever Ray
        calls ended has left them by the time they are looked for.
        """
        answer = await self._ray.look(_submission_id(row), row.id)
        return await asyncio.to_thread(self._with_files, row, answer)

    def _with_files(self, row: Row, answer: Any) -> Evidence:
        outcome = self._attempts.read(row.id, row.attempt, "outcome") or {}
        return Evidence(
            backend=answer.backend,
            claimed=self._attempts.is_claimed(row.id, row.attempt),
            manifest=self._attempts.read(row.id, row.attempt, "manifest") is not None,
            outcome=outcome.get("outcome", "none"),
            detail=str(outcome.get("reason") or answer.detail)[:2000],
        )

    async def _act(self, row: Row, decision: Step) -> Step:
        """Act on a decision; return the decision that holds afterwards."""
        if decision.action == "submit":
            return await self._submit(row, decision)
        if decision.action == "stop":
            await self._ray.stop(_submission_id(row))
        elif decision.action == "bury":
            won = await asyncio.to_thread(self._attempts.take, row.id, row.attempt, "reconciler")
            return decision if won else Step(effect="watch")  # a driver was first: look again
        return decision

    async def _submit(self, row: Row, decision: Step) -> Step:
        try:
            spec = JobSpec.model_validate_json(row.spec)
        except ValueError:
            return await self._act(
                row, Step(effect="fail", action="bury", state="failed", reason="the stored spec cannot be read")
            )
        content = spec.model_dump(mode="json")
        await asyncio.to_thread(self._attempts.write, row.id, row.attempt, "spec", content)
        await self._ray.submit(_submission_id(row), row.id, row.attempt, spec)
        ATTEMPTS.inc()
        return decision

    def _postponed(self, row: Row, error: Exception) -> dict[str, Any]:
        """Return the change for a job that could not be stepped on: later, or much later if it makes no sense."""
        is_transient = isinstance(error, TRANSIENT) or type(error).__module__.startswith("obstore")
        log.warning("step_failed", error=_words(error), transient=is_transient)
        prefix, pause_s = ("", 2 * self._settings.poll_s) if is_transient else ("quarantined: ", QUARANTINE_S)
        return {"reason": f"{prefix}{_words(error)}", "due": time.time() + pause_s}


def _clock() -> float:
    """Return how far the clock is ahead of the monotonic one, in seconds; constant but for its corrections."""
    return time.time() - time.monotonic()


def _submission_id(row: Row) -> str:
    return f"{row.id}-a{row.attempt}"


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]
