"""A process that imports once what workers of Ray import, and forks the workers of the Rays of the tests.

Usage: python -m tests.support.ray_worker_server NAME; `tests.support.ray_worker` asks it, which a raylet starts for
each worker. The imports take 3 s of CPU time, more than most trials of the tests. Ray reads the worker's job and raylet
from the environment when it is imported: a second process, forked from the first, imports it for the workers of a job.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

from tests.support import fork_server, ray_worker

ROOT = Path(__file__).resolve().parents[2]
MODULES = (
    *("aiohttp", "fsspec", "google.protobuf.descriptor_pb2", "grpc.aio", "jsonschema", "pandas", "pyarrow.fs"),
    *("pyarrow.parquet", "requests", "rich.console", "tensorboardX"),
    *("mcl_ray.data.source", "mcl_ray.training.build", "mcl_ray.training.recorded_run"),
)
"""What a worker that trains imports, without what imports ray."""
MODULES_OF_RAY = ("tests.support.ray_ids", "ray.dashboard.modules.job.job_supervisor", "ray.tune")
"""What most workers import of Ray."""
MAX_JOBS = 4
"""Processes of jobs at a time; the one of the job that began first ends."""


@functools.cache
def variables() -> dict[str, str]:
    """Return the variables by which raylets find the server of this process, which the first call starts.

    It ends with this process, which has the other end of its input.
    """
    name = f"mcl-tests-{os.getpid()}"
    command = [sys.executable, "-m", __name__, name]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    atexit.register(server.communicate)
    assert server.stdout is not None
    assert server.stdout.readline() == b"listening\n"
    return {ray_worker.SERVER: name}


class Request(NamedTuple):
    """A worker that `tests.support.ray_worker` asks for; descriptors are its three streams and the socket that asks."""

    message: bytes
    descriptors: list[int]

    @property
    def variables_of_ray(self) -> frozenset[tuple[str, str]]:
        """Return the variables that Ray may read when it is imported."""
        environment: dict[str, str] = json.loads(self.message)["environment"]
        return frozenset((name, value) for name, value in environment.items() if name.startswith("RAY_"))


def next_worker(listener: socket.socket, added: dict[str, str]) -> list[str] | None:
    """Have a worker forked for each process that connects, until the input ends; return its arguments in there."""
    jobs: dict[frozenset[tuple[str, str]], socket.socket] = {}
    while listener.fileno() in select.select([listener.fileno(), 0], [], [])[0]:
        asking, _ = listener.accept()
        message, descriptors, _, _ = socket.recv_fds(asking, ray_worker.MAX_BYTES, 3)
        request = Request(message, [*descriptors, asking.detach()])
        if message and (control := _send(jobs, request)) is not None:
            listener.close()
            return _next_worker_of_job(control, request.variables_of_ray, added)
        for descriptor in request.descriptors:
            os.close(descriptor)
    return None


def _send(jobs: dict[frozenset[tuple[str, str]], socket.socket], request: Request) -> socket.socket | None:
    """Send a request to the process of its job, which is forked if there is none; return its control in there."""
    key = request.variables_of_ray
    while True:
        if key in jobs:
            with contextlib.suppress(ConnectionError):  # it has ended, as its raylet has
                socket.send_fds(jobs[key], [request.message], request.descriptors)
                return None
            jobs.pop(key).close()
        while len(jobs) >= MAX_JOBS:
            jobs.pop(next(iter(jobs))).close()
        jobs[key], far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        jobs[key].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ray_worker.MAX_BYTES)
        if os.fork() == 0:
            for near in jobs.values():
                near.close()
            for descriptor in request.descriptors:
                os.close(descriptor)
            return far
        far.close()


def _next_worker_of_job(
    control: socket.socket, variables: frozenset[tuple[str, str]], added: dict[str, str]
) -> list[str]:
    """Import ray for a job, and fork its workers; exit when the raylet or the server ends."""
    try:
        raylet = os.pidfd_open(int(dict(variables)["RAY_RAYLET_PID"]))
    except ProcessLookupError:
        os._exit(0)
    added = added | _variables_of_imports(MODULES_OF_RAY, dict(variables))
    while raylet not in select.select([control.fileno(), raylet], [], [])[0]:
        message, descriptors, _, _ = socket.recv_fds(control, ray_worker.MAX_BYTES, 4)
        if not message:
            break
        if os.fork() == 0:
            control.close()
            os.close(raylet)
            return _become_worker(Request(message, descriptors), added)
        for descriptor in descriptors:
            os.close(descriptor)
    os._exit(0)


def _become_worker(request: Request, added: dict[str, str]) -> list[str]:
    """Fork a worker, and be its guard here: it ends with the process that asks for it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asked, (*streams, asking) = json.loads(request.message), request.descriptors
    if (worker := os.fork()) == 0:
        os.close(asking)
        os.nice(asked["niceness"])
        return fork_server.become(asked, streams, added)
    for descriptor in streams:
        os.close(descriptor)
    with contextlib.suppress(BrokenPipeError):  # it has ended meanwhile
        os.write(asking, str(worker).encode())
    select.select([asking, os.pidfd_open(worker)], [], [])
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker, signal.SIGKILL)
    os._exit(0)


def _variables_of_imports(modules: tuple[str, ...], given: dict[str, str]) -> dict[str, str]:
    """Import modules in a process that has these variables, too; return those that the modules have set."""
    os.environ.update(given)
    before = dict(os.environ)
    for name in modules:
        importlib.import_module(name)
    assert threading.active_count() == 1, "only a process of one thread is forked"
    gc.freeze()
    return {name: value for name, value in os.environ.items() if name not in before}


def main() -> list[str] | None:
    """Import and serve; return the arguments of a worker in its process."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind("\0" + sys.argv[1])
    listener.listen(100)
    os.write(1, b"listening\n")
    added = _variables_of_imports(MODULES, {})
    assert "ray" not in sys.modules
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nothing is left of a worker that has ended
    return next_worker(listener, added)


if __name__ == "__main__" and (program := main()) is not None:
    fork_server.run_to_its_end(program)
