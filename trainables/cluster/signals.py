"""Signals while Ray runs: its processes get none of ours, and handlers that it replaces are restored."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mcl_ray import interruption
from trainables.cluster.reaper import Reaper

REPLACED_BY_RAY = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

_starting: list[Reaper | None] = []
"""While this process starts or ends a Ray: the reaper of that Ray, if it is a local one that starts."""


@contextmanager
def restore_signal_handlers() -> Iterator[None]:
    """Restore the handlers of signals on leaving.

    Off the main thread this does nothing: Ray sets no handlers there, and Python allows none.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in REPLACED_BY_RAY}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:  # None: not set from Python, and it cannot be set from there
                signal.signal(number, handler)


@contextmanager
def apart_from_ray(reaper: Reaper | None = None) -> Iterator[None]:
    """Start or end Ray in this context: its processes are sessions of their own, and our handlers hold after it.

    `timeout`, a terminal that closes and Ctrl-C signal the whole group of processes, and a Ray that ends by that could
    not end its trials in order.

    Args:
        reaper: Kills the processes that start in this context if this one is killed.
    """
    with restore_signal_handlers():
        _starting.append(reaper)
        try:
            yield
        finally:
            _starting.clear()


def _leave_group() -> None:
    """Make a process that was just forked, to become one of Ray's, a session of its own."""
    while _starting:
        reaper = _starting.pop()
        with suppress(OSError):
            os.setsid()
            if reaper is not None:
                reaper.add_own_session()


os.register_at_fork(after_in_child=_leave_group)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt where Ray Train, on Ctrl-C, ends the workers and then this process.

    Raises:
        KeyboardInterrupt: a user pressed Ctrl-C.
    """
    with restore_signal_handlers():
        try:
            yield
        except SystemExit as end:
            interruption.note(signal.SIGINT)
            raise KeyboardInterrupt from end
