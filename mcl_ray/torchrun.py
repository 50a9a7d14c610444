"""How torchrun starts the front door of a run: as one of several workers. Nothing else looks at torchrun's variables.

What workers tell each other once they have met is `mcl_ray.distributed`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

from mcl_ray.cli.app import EXIT_BAD_INPUT, EXIT_FAILED
from mcl_ray.errors import MclError, NonFiniteLossError, UserError

FIRST_SPEAKS_WITHIN_S = 5.0
"""torchrun ends all workers with the first that fails, so the others wait for the one who says why."""


class TorchrunEnv(NamedTuple):
    """Which worker this process is; without torchrun, the only one."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    """Its number among the workers of this machine."""
    local_world_size: int = 1
    """Workers on this machine."""

    def device(self, name: str) -> str:
        """The device of this worker where `name` is what was asked for: workers take one CUDA device each.

        Raises:
            UserError: this machine has no device for each of its workers.
        """
        if self.world_size == 1:
            return name
        if ":" in name:
            raise UserError(
                f"each worker takes a CUDA device of its own: --device is auto, cuda or cpu, but got {name}"
            )
        import torch

        from mcl_ray.training.build import choose_device

        if choose_device(name).type == "cpu":
            return name
        if self.local_world_size > (count := torch.cuda.device_count()):
            raise UserError(
                f"workers on a machine <= its CUDA devices must hold, but got {self.local_world_size} workers, "
                f"{count} CUDA devices; --device cpu needs none"
            )
        return f"cuda:{self.local_rank}"


def read_torchrun_env() -> TorchrunEnv:
    """What torchrun says of this process.

    Raises:
        UserError: its variables contradict each other.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return TorchrunEnv()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    told = {name: os.environ.get(name, "") for name in names}
    if all(value.isdecimal() for value in told.values()):
        found = TorchrunEnv(*map(int, told.values()))
        if found.rank < found.world_size and found.local_rank < found.local_world_size <= found.world_size:
            return found
    values = ", ".join(f"{name}={value!r}" for name, value in told.items())
    raise UserError(f"torchrun numbers the workers from 0, but got {values}; without torchrun, unset WORLD_SIZE")


@contextmanager
def rank_zero_output() -> Iterator[None]:
    """Let the first worker speak for all: what the others have to say, it says too.

    Exceptions that end a program with a traceback are seen, whoever raises them. A worker that ends otherwise than well
    leaves at once: it has the threads of a group that it took no leave of, which may abort a process that ends slowly.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield
        return
    is_rank_zero = os.environ.get("RANK", "0") == "0"
    try:
        with nullcontext() if is_rank_zero else _silence():
            yield
    except SystemExit as leaving:
        if not is_rank_zero and leaving.code in (EXIT_FAILED, EXIT_BAD_INPUT):
            time.sleep(FIRST_SPEAKS_WITHIN_S)
        if isinstance(leaving.code, int):
            _leave_at_once(leaving.code)
        raise


@contextmanager
def _silence() -> Iterator[None]:
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def _leave_at_once(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(code)


@contextmanager
def report_rank_errors(rank: int) -> Iterator[None]:
    """Say what befell this worker alone, in spite of `rank_zero_output`: all but what every worker raises together."""
    try:
        yield
    except (UserError, NonFiniteLossError):
        raise
    except MclError as error:
        if rank > 0:
            print(f"error: worker {rank}: {error}", file=sys.__stderr__, flush=True)
        raise
