"""Status messages about workers that wait for resources: Ray itself waits without a message, for as long as it takes.

Ray has no event for it, so a thread polls the placement groups.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import ray
from ray.exceptions import RayError
from ray.util import placement_group_table

from trainables.cluster.connect import described, fitting, is_lost
from trainables.torch_trainer import Group

POLL_INTERVAL_S = 2.0
JOIN_INTERVAL_S = 0.1
REPORT_AFTER_S = 10.0
"""Time after which waiting is reported: a group that replaces another waits for a moment, which needs no message."""


@contextmanager
def report_pending_workers(group: Group, on_status: Callable[[str], None]) -> Iterator[None]:
    """Send a message when groups of this driver like `group` wait for resources, and again when the reason changes."""
    poller = _Poller(group, on_status)
    poller.start()
    try:
        yield
    finally:
        poller.stop.set()
        while poller.is_alive() and not is_lost():
            poller.join(JOIN_INTERVAL_S)


class _Poller(threading.Thread):
    """Polls for placement groups that this driver asked for and that are pending."""

    def __init__(self, group: Group, on_status: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self._group, self._on_status = group, on_status
        self._since: float | None = None
        self._last_seen, self._last_message = 0.0, ""
        self.stop = threading.Event()

    def run(self) -> None:
        with suppress(RayError):  # Ray has ended, which is reported elsewhere
            while not self.stop.wait(POLL_INTERVAL_S):
                self._update(_pending_workers(self._group), time.monotonic())

    def _update(self, num_workers: int, now: float) -> None:
        """Send a message if one is due; an elastic group repeats its request, and waits between two of them too."""
        if num_workers == 0:
            if now - self._last_seen > 2 * POLL_INTERVAL_S:
                self._since, self._last_message = None, ""
            return
        self._since, self._last_seen = self._since or now, now
        if now - self._since < REPORT_AFTER_S:
            return
        message = _message(self._group, num_workers)
        if message != self._last_message:
            self._last_message = message
            self._on_status(message)


def _pending_workers(group: Group) -> int:
    """Return the number of workers of a pending group like this one; 0 without any.

    An elastic group whose smallest size does not fit makes no request. An id in Ray ends with that of its driver's job.
    """
    if fitting(group.bundle) < group.fewest:
        return group.fewest
    job = ray.get_runtime_context().get_job_id()
    requested = {name: amount for name, amount in group.bundle.items() if amount}
    for placement in placement_group_table().values():
        bundles = list(placement["bundles"].values())
        is_ours = placement["placement_group_id"].endswith(job) and bundles == [requested] * len(bundles)
        if is_ours and placement["state"] in ("PENDING", "RESCHEDULING"):
            return len(bundles)
    return 0


def _message(group: Group, num_workers: int) -> str:
    fit = fitting(group.bundle)
    reason = f"{fit} fit" if fit < num_workers else "others use them"
    return f"waiting for room for {num_workers} workers: {described(group.bundle)}: {reason}"
