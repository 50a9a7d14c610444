"""Output and exit of the command `train` under torchrun: rank 0 prints, the other workers are silent."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import NoReturn

from mcl_ray.cli.app import EXIT_BAD_INPUT, EXIT_FAILED
from mcl_ray.errors import MclError, NonFiniteLossError, UserError

EXIT_DELAY_S = 5.0
"""Time that a failed worker waits before it exits: torchrun ends all workers with the first that fails, and rank 0 has
to print the error."""


@contextmanager
def rank_zero_output() -> Iterator[None]:
    """Let only rank 0 print; errors that every worker raises are printed once.

    Exceptions that end a program with a traceback are printed by every worker. A worker with a failure exits at once,
    without the interpreter's clean-up: the threads of a process group that was not left may abort a slow exit.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield
        return
    is_rank_zero = os.environ.get("RANK", "0") == "0"
    try:
        with nullcontext() if is_rank_zero else _silence():
            yield
    except SystemExit as end:
        if not is_rank_zero and end.code in (EXIT_FAILED, EXIT_BAD_INPUT):
            time.sleep(EXIT_DELAY_S)
        if isinstance(end.code, int):
            _exit_at_once(end.code)
        raise


@contextmanager
def report_rank_errors(rank: int) -> Iterator[None]:
    """Print an error of this worker alone in spite of `rank_zero_output`: any that not every worker raises."""
    try:
        yield
    except (UserError, NonFiniteLossError):
        raise
    except MclError as error:
        if rank > 0:
            print(f"error: worker {rank}: {error}", file=sys.__stderr__, flush=True)
        raise


@contextmanager
def _silence() -> Iterator[None]:
    with Path(os.devnull).open("w") as devnull, redirect_stdout(devnull), redirect_stderr(devnull):
        yield


def _exit_at_once(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # the other end of a pipe may be closed
            stream.flush()
    os._exit(code)
