"""Real processes in one gloo group, which call what a test gives them, forked from one that has imported torch.

Usage of a worker: python -m tests.support.workers RANK COUNT MEETING, with a connection as its standard input.
"""

from __future__ import annotations

import multiprocessing
import pickle
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tests.support.forked import ROOT, ForkedProcess

GIVES_UP_AFTER = timedelta(seconds=900)
RETURNS_WITHIN_S = 900.0
MODULES = ("torch.distributed", "mcl_ray.training.build", "mcl_ray.training.recorded_run")


class Workers:
    """All workers, ready."""

    def __init__(self, processes: list[ForkedProcess], pipes: list[Connection]) -> None:
        self._processes, self._pipes, self._within_s = processes, pipes, RETURNS_WITHIN_S

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Have each call `function`, which a module has to hold, and return what each returned or raised."""
        for pipe in self._pipes:
            pipe.send_bytes(pickle.dumps((function, arguments)))
        deadline = time.monotonic() + self._within_s
        outcomes = [self._outcome(rank, function, deadline) for rank in range(len(self._pipes))]
        unexpected = [outcome for outcome in outcomes if isinstance(outcome, str)]
        assert not unexpected, "\n".join(unexpected)
        return [outcome[0] for outcome in outcomes]

    def _outcome(self, rank: int, function: Callable[..., Any], deadline: float) -> Any:
        pipe, process = self._pipes[rank], self._processes[rank]
        if not pipe.poll(max(0.0, deadline - time.monotonic())):
            for hanging in self._processes:
                hanging.kill()
            raise AssertionError(f"worker {rank} did not return from {function.__name__} within {self._within_s:g} s")
        try:
            return pickle.loads(pipe.recv_bytes())
        except EOFError:
            code = process.wait()
            raise AssertionError(f"worker {rank} died in {function.__name__}: exit code {code}") from None


@contextmanager
def some_workers(folder: Path, count: int = 2) -> Iterator[Workers]:
    """Start `count` workers; they meet at a file in `folder`, and are killed if they take longer for anything."""
    pipes, processes = [multiprocessing.Pipe() for _ in range(count)], []
    for rank, (_, far) in enumerate(pipes):
        words = ["-m", "tests.support.workers", str(rank), str(count), str(folder / "meeting")]
        processes.append(ForkedProcess([sys.executable, *words], MODULES, cwd=ROOT, stdin=far.fileno()))
        far.close()  # the worker's own is then the last, and its death is heard
    try:
        yield Workers(processes, [near for near, _ in pipes])
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _work(rank: int, count: int, meeting: str, pipe: Connection) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=count, timeout=GIVES_UP_AFTER
    )
    while True:
        function, arguments = pickle.loads(pipe.recv_bytes())
        try:
            outcome: Any = (function(*arguments),)
        except Exception:  # whatever it is, the test that asked for it fails with it
            outcome = f"worker {rank}: {traceback.format_exc()}"
        pipe.send_bytes(pickle.dumps(outcome))


if __name__ == "__main__":
    _work(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Connection(0))
