"""Garbage collection of a process that works for one command: rare, and none at its end.

Imports make about a million objects that stay. By default they are searched for cycles again and again while they are
made, and once more at the end of the interpreter, which takes a third of the CPU time of a short command. Training
itself leaves nearly no cycles.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

NEW_OBJECTS, DEFAULT_NEW_OBJECTS = 50_000, 700
"""Numbers of new objects after which they are searched."""


def collect_rarely() -> None:
    """Collect garbage rarely from now on."""
    gc.set_threshold(NEW_OBJECTS)


def collect_as_usual() -> None:
    """Collect what becomes garbage from now on as Python does by default: for a process that stays."""
    gc.freeze()
    gc.set_threshold(DEFAULT_NEW_OBJECTS)


@contextmanager
def collected_rarely() -> Iterator[None]:
    """Collect garbage rarely in this context, and none of what is left, when the interpreter ends after it."""
    collect_rarely()
    try:
        yield
    finally:
        collect_as_usual()
