"""The interruption of Tune: the first signal ends its loop in order, and further ones leave its end alone.

Tune's own handler of Ctrl-C would have a second one break off the end of the trials.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from mcl_ray import interruption
from trainables.cluster.signals import restore_signal_handlers

WITHOUT_SIGINT = "TUNE_DISABLE_SIGINT_HANDLER"
"""Variable by which Tune leaves SIGINT alone; it sets its handler for SIGUSR1 in any case."""


@contextmanager
def interruptible_tune() -> Iterator[None]:
    """End Tune's loop in order at the first signal in this context; the caller asks whether every trial has ended."""
    with restore_signal_handlers(), interruption.ended_by(_end_loop):
        os.environ[WITHOUT_SIGINT] = "1"
        try:
            yield
        finally:
            os.environ.pop(WITHOUT_SIGINT, None)


def _end_loop() -> bool:
    """Call the handler that Tune has set, which ends its loop; return whether there is one."""
    handler = signal.getsignal(signal.SIGUSR1)
    if not callable(handler) or not getattr(handler, "__module__", "").startswith("ray.tune"):
        return False
    handler(signal.SIGUSR1, None)
    return True
