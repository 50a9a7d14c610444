"""The callback that keeps a sweep's own record up to date, and how callbacks handle results that cannot be written."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from mcl_ray.callbacks import SweepCallback
from mcl_ray.errors import StoreError
from mcl_ray.results.store import SweepWriter

_log = logging.getLogger(__name__)


class SweepRecorder(SweepCallback):
    """Records the time spent, so that what a killed sweep spent counts against its limit."""

    must_succeed: ClassVar[bool] = True

    def __init__(self, writer: SweepWriter) -> None:
        self._writer = writer

    def on_heartbeat(self) -> None:
        """Record the time spent so far, every few seconds.

        Raises:
            StoreError: the sweep's folder was renamed or removed, which ends the sweep.
        """
        self._writer.check_in_place()
        with log_store_errors("the sweep continues"):
            self._writer.touch()


@contextmanager
def log_store_errors(event: str) -> Iterator[None]:
    """Log a StoreError as a warning: the sweep continues, and `event` is not recorded."""
    try:
        yield
    except StoreError as error:
        _log.warning("%s, but this could not be recorded: %s", event, error)
