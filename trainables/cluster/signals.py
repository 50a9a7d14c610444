"""Ctrl-C is this program's: Ray takes the signal while it runs something, and does not give it back."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ctrl_c_given_back() -> Iterator[None]:
    """Afterwards, Ctrl-C does what it did before."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def interruptible() -> Iterator[None]:
    """Ray Train answers Ctrl-C by ending the workers and then this process; let the rest of the program have its say.

    Raises:
        KeyboardInterrupt: where Ray would end the process.
    """
    try:
        with ctrl_c_given_back():
            yield
    except SystemExit as end:
        raise KeyboardInterrupt from end
