"""Real processes in one gloo group, who do what a test tells them."""

from __future__ import annotations

import multiprocessing
import pickle
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

GIVES_UP_AFTER = timedelta(seconds=120)
RETURNS_WITHIN_S = 600.0


class Workers:
    """All workers, ready."""

    def __init__(self, processes: list[SpawnProcess], pipes: list[Connection]) -> None:
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
            process.join()
            raise AssertionError(f"worker {rank} died in {function.__name__}: exit code {process.exitcode}") from None


@contextmanager
def some_workers(folder: Path, count: int = 2) -> Iterator[Workers]:
    """Start `count` workers; they meet at a file in `folder`, and are killed if they take longer for anything."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(count)]
    processes = [
        context.Process(target=_work, args=(rank, count, str(folder / "meeting"), far), daemon=True)
        for rank, (_, far) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    for _, far in pipes:
        far.close()  # the worker's own is then the last, and its death is heard
    try:
        yield Workers(processes, [near for near, _ in pipes])
    finally:
        for process in processes:
            process.kill()
            process.join()


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
