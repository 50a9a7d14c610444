"""The channel between rank 0 of a trial's workers and the trial: a report goes through, its answer comes back.

The events of a run, which need no answer, go through `event_channel.py`.
"""

from __future__ import annotations

import asyncio
from typing import Any

Metrics = dict[str, Any]


class ReportChannel:
    """An asynchronous actor that hands over one report at a time, and answers it when the next one is asked for."""

    def __init__(self) -> None:
        self._reports: asyncio.Queue[tuple[Metrics, asyncio.Future[bool]]] = asyncio.Queue()
        self._unanswered: asyncio.Future[bool] | None = None
        self._is_stopped = False

    async def put(self, metrics: Metrics) -> bool:
        """Hand over a report, wait for its answer, and return whether to continue training."""
        if self._is_stopped:
            return False
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        await self._reports.put((metrics, answer))
        return await answer

    async def next(self) -> Metrics:
        """Answer the report before with "continue", and return the next one when it comes."""
        self._answer(may_continue=True)
        metrics, self._unanswered = await self._reports.get()
        return metrics

    async def stop(self) -> None:
        """Answer this and every later report with "stop"."""
        self._is_stopped = True
        self._answer(may_continue=False)
        while not self._reports.empty():
            _, self._unanswered = self._reports.get_nowait()
            self._answer(may_continue=False)

    def _answer(self, *, may_continue: bool) -> None:
        if self._unanswered is not None:
            self._unanswered.set_result(may_continue)
            self._unanswered = None
