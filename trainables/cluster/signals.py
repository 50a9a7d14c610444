"""Signal handlers that Ray replaces while it runs, and does not restore."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

REPLACED_BY_RAY = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def restore_signal_handlers() -> Iterator[None]:
    """Restore the handlers of SIGINT and SIGTERM on leaving.

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
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt where Ray Train, on Ctrl-C, ends the workers and then this process.

    Raises:
        KeyboardInterrupt: a user pressed Ctrl-C.
    """
    try:
        with restore_signal_handlers():
            yield
    except SystemExit as end:
        raise KeyboardInterrupt from end
