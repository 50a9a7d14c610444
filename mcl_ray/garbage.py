"""Garbage collection of a process that runs one command: rare, and none at its end.

Imports make about a million objects that stay. By default they are searched for cycles again and again while they are
made, and are searched and destroyed one by one at the end of the interpreter, which takes half of the CPU time of a
short command. Training itself leaves nearly no cycles.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

NEW_OBJECTS, DEFAULT_NEW_OBJECTS = 50_000, 700
"""Numbers of new objects after which they are searched."""
EXIT_UNFLUSHED = 120
"""Python's exit code where output could not be written at the end."""


def collect_rarely() -> None:
    """Collect garbage rarely from now on."""
    gc.set_threshold(NEW_OBJECTS)


def collect_as_usual() -> None:
    """Collect what becomes garbage from now on as Python does by default: for a process that stays."""
    gc.freeze()
    gc.set_threshold(DEFAULT_NEW_OBJECTS)


@contextmanager
def rarely_collected_process() -> Iterator[None]:
    """Run a command in this context, and end the process with it.

    An error other than SystemExit is raised as usual, and so is that one under a profiler or a debugger, which has
    something to say at the end.
    """
    collect_rarely()
    code: str | int | None = 0
    try:
        yield
    except SystemExit as end:
        code = end.code
    if _is_observed():
        sys.exit(code)
    exit_process(code)


def _is_observed() -> bool:
    monitoring = getattr(sys, "monitoring", None)  # of Python 3.12
    tools = [monitoring.get_tool(number) for number in range(6)] if monitoring else []
    return any(tools) or sys.getprofile() is not None or sys.gettrace() is not None


def exit_process(code: str | int | None) -> NoReturn:
    """End this process as the interpreter does, but for the destruction of the objects that are left.

    Threads that are no daemons are waited for, functions of `atexit` are called, and streams are flushed.

    Args:
        code: as of SystemExit: an exit code, None for success, or a message for stderr.
    """
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    status = code if isinstance(code, int) else int(code is not None)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            status = status or EXIT_UNFLUSHED
    os._exit(status & 0xFF)
