"""The channel by which rank 0 of a run's workers sends events to the callbacks of the driver.

Training never waits for the driver: an event is a call to an actor whose result is looked at later. Reports of trials,
which need an answer, go through `report_channel.py`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mcl_ray.callbacks import EpochEnd, RunCallback, RunEnd, RunStart, StepEnd, notify
from mcl_ray.errors import ClusterLostError, TrainingError

Event = tuple[str, tuple[Any, ...]]
"""A method of RunCallback, and its arguments."""

DELIVERED_WITHIN_S = 10.0
"""Time that a worker waits at the end of its run for the delivery of its last events."""

_log = logging.getLogger(__name__)


class EventChannel:
    """An asynchronous actor on the driver's node that queues events."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._is_stopped = False

    async def put(self, event: str, details: tuple[Any, ...]) -> bool:
        """Queue an event, and return whether the run may continue."""
        await self._events.put((event, details))
        return not self._is_stopped

    async def next(self) -> list[Event | None]:
        """Wait for an event, and return all that are queued; None is the last one."""
        events = [await self._events.get()]
        while not self._events.empty():
            events.append(self._events.get_nowait())
        return events

    async def stop(self) -> None:
        """Have every later `put` return that the run may not continue."""
        self._is_stopped = True

    async def close(self) -> None:
        """Queue the end of the events."""
        await self._events.put(None)


class EventSender(RunCallback):
    """Sends a run's events from the worker that trains it, without waiting for their delivery.

    `on_run_end` is not sent: a run may have several attempts, and the driver records how the last one ended.
    """

    must_succeed: ClassVar[bool] = True

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._undelivered: list[Any] = []

    def on_run_start(self, start: RunStart) -> None:
        """Send the event."""
        self._send("on_run_start", start)

    def on_step(self, step: StepEnd) -> None:
        """Send the event."""
        self._send("on_step", step)

    def on_epoch_end(self, epoch: EpochEnd) -> None:
        """Send the event."""
        self._send("on_epoch_end", epoch)

    def on_run_end(self, end: RunEnd) -> None:
        """Wait until the events before are delivered, as this process may end now."""
        if self._undelivered:
            ray.wait(self._undelivered, num_returns=len(self._undelivered), timeout=DELIVERED_WITHIN_S)

    def _send(self, event: str, *details: Any) -> None:
        """Send an event.

        Raises:
            TrainingError: a callback of the driver that must succeed failed at an earlier event.
        """
        self._check_delivered()
        self._undelivered.append(self._channel.put.remote(event, details))

    def _check_delivered(self) -> None:
        if not self._undelivered:
            return
        done, self._undelivered = ray.wait(self._undelivered, num_returns=len(self._undelivered), timeout=0)
        try:
            may_continue = all(ray.get(done))
        except RayError:  # the driver is gone or goes: Ray ends this worker with it
            return
        if not may_continue:
            raise TrainingError("callbacks with `must_succeed` must not raise, but one did in the driver")


class EventReceiver:
    """Calls the driver's callbacks, one event after the other, in a thread of its own.

    `error` is what a callback with `must_succeed` raised; the worker then ends the run at its next event.
    """

    def __init__(self, callbacks: Sequence[RunCallback], folder: Path) -> None:
        """Create the channel.

        Args:
            callbacks: Receive the events.
            folder: The run's folder as this process sees it: a worker's replica of a store may be elsewhere.
        """
        on_this_node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor: Any = ray.remote(num_cpus=0)(EventChannel)
        self._channel = actor.options(scheduling_strategy=on_this_node).remote()
        self._callbacks, self._folder = callbacks, folder
        self._thread = threading.Thread(target=self._run, name="run-events", daemon=True)
        self.error: Exception | None = None
        self._is_broken = False

    @property
    def sender(self) -> EventSender:
        """The callback of rank 0."""
        return EventSender(self._channel)

    def on_status(self, message: str) -> None:
        """Send a message of this process to the callbacks, in turn with the run's events."""
        self._channel.put.remote("on_status", (message,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until the callbacks have received every event; not if the local Ray has ended, and its channel."""
        if isinstance(error, ClusterLostError):
            return
        self._channel.close.remote()
        self._thread.join()
        if self._is_broken:
            _log.warning("the events of a run on Ray were lost; its record has every epoch")
        ray.kill(self._channel)

    def _run(self) -> None:
        try:
            while True:
                for event in ray.get(self._channel.next.remote()):
                    if event is None:
                        return
                    self._notify(*event)
        except RayError:  # reported at the end, which knows whether it is the end of Ray
            self._is_broken = True

    def _notify(self, event: str, details: tuple[Any, ...]) -> None:
        if self.error is not None:
            return
        try:
            notify(self._callbacks, event, *(self._localised(detail) for detail in details))
        except Exception as error:
            self.error = error
            self._channel.stop.remote()

    def _localised(self, detail: Any) -> Any:
        """Return the detail with paths of this process instead of the worker's."""
        if isinstance(detail, RunStart):
            return replace(detail, folder=self._folder)
        if isinstance(detail, EpochEnd) and detail.checkpoint is not None:
            return replace(detail, checkpoint=self._folder / "checkpoints" / detail.checkpoint.name)
        return detail
