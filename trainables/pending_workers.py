"""Groups that wait for room, said aloud: Ray itself does so in silence, for as long as it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.util import placement_group_table
from rich.console import Console

from trainables.cluster.connect import described, fitting
from trainables.torch_trainer import Group

LOOKS_EVERY_S = 2.0
SAID_AFTER_S = 10.0
"""A group that takes the place of another waits for a moment, which is not worth a word."""


@contextmanager
def waiting_is_said(group: Group, console: Console) -> Iterator[None]:
    """Say that groups like this one of this driver's wait for room, and again when there is another reason."""
    watch = _Watch(group, console)
    watch.start()
    try:
        yield
    finally:
        watch.over.set()
        watch.join()


class _Watch(threading.Thread):
    """Looks at what this driver asked Ray to reserve."""

    def __init__(self, group: Group, console: Console) -> None:
        super().__init__(daemon=True)
        self._group, self._console = group, console
        self._since: float | None = None
        self._seen_at, self._said = 0.0, ""
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(LOOKS_EVERY_S):
            self._look(_waiting_workers(self._group), time.monotonic())

    def _look(self, num_workers: int, now: float) -> None:
        """A range asks again and again: between two times it waits nonetheless."""
        if num_workers == 0:
            if now - self._seen_at > 2 * LOOKS_EVERY_S:
                self._since, self._said = None, ""
            return
        self._since, self._seen_at = self._since or now, now
        if now - self._since >= SAID_AFTER_S and (told := _told(self._group, num_workers)) != self._said:
            self._said = told
            self._console.print(told, soft_wrap=True)


def _waiting_workers(group: Group) -> int:
    """Of one group for which Ray has no room yet; 0 without any.

    A range for whose fewest there is no room is not even asked for. An id in Ray ends with that of its driver's job.
    """
    if fitting(group.bundle) < group.fewest:
        return group.fewest
    job = ray.get_runtime_context().get_job_id()
    asked = {name: amount for name, amount in group.bundle.items() if amount}
    for one in placement_group_table().values():
        bundles = list(one["bundles"].values())
        is_ours = one["placement_group_id"].endswith(job) and bundles == [asked] * len(bundles)
        if is_ours and one["state"] in ("PENDING", "RESCHEDULING"):
            return len(bundles)
    return 0


def _told(group: Group, num_workers: int) -> str:
    room = fitting(group.bundle)
    why = f"{room} fit" if room < num_workers else "others have them"
    return f"waiting for room for {num_workers} workers: {described(group.bundle)}: {why}"
