"""The event stream of a job: its changes of state, replayed from the database and followed as they happen."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import sqlalchemy as sa
import structlog
from fastapi.sse import ServerSentEvent

from api import jobs
from api.database import Database, event
from mcl_ray.jobs.messages import JobEvent, Problem
from mcl_ray.jobs.states import TERMINAL

LOOKS_EVERY_S = 0.3
"""Pause between two looks at the database, one for all streams of a process."""
RECHECK_S = 5.0
"""Pause after which a stream looks by itself: PostgreSQL may commit events out of the order of their ids."""

log = structlog.get_logger()


class EventFeed:
    """Wakes every stream of a process when any event is new, with one query for all of them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changed = asyncio.Condition()
        self._waiting = 0

    async def run(self) -> None:
        """Look for new events without end, while any stream waits for them."""
        seen = 0
        while True:
            await asyncio.sleep(LOOKS_EVERY_S)
            if not self._waiting:
                continue
            with contextlib.suppress(sa.exc.SQLAlchemyError):  # streams look by themselves, and say what is wrong
                newest = (await asyncio.to_thread(self._database.read, sa.select(sa.func.max(event.c.id))))[0][0] or 0
                if newest != seen:
                    seen = newest
                    async with self._changed:
                        self._changed.notify_all()

    async def follow(self, job_id: str, after: int) -> AsyncIterator[ServerSentEvent]:
        """Yield the events of a job with ids above `after`, until it has ended.

        A failure becomes an `error` event: a stream that merely ends would look complete.
        """
        state = ""
        try:
            while state not in TERMINAL:
                rows: list[Any] = await asyncio.to_thread(jobs.events, self._database, job_id, after)
                for row in rows:
                    after, state = row.id, row.state
                    found = JobEvent.model_validate(row, from_attributes=True)
                    yield ServerSentEvent(id=str(row.id), event="state", data=found.model_dump())
                if not rows:
                    await self._wait()
        except Exception as error:
            log.warning("stream_failed", job=job_id, error=f"{type(error).__name__}: {error}"[:300])
            body = Problem(title="Service Unavailable", status=503, detail="the stream failed; open it again")
            yield ServerSentEvent(event="error", data=body.model_dump())

    async def _wait(self) -> None:
        self._waiting += 1
        try:
            async with self._changed:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RECHECK_S):
                        await self._changed.wait()
        finally:
            self._waiting -= 1
