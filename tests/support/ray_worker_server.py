"""A process that imports once what workers of Ray import, and forks the workers of the Rays of the tests.

Usage: python -m tests.support.ray_worker_server NAME; `tests.support.ray_worker` asks it, which a raylet starts for
each worker. The imports take 3 s of CPU time, more than most trials of the tests. Ray itself is left to the worker: it
reads the worker's job from the environment when it is imported.
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
from typing import Any

from tests.support import fork_server, ray_worker

ROOT = Path(__file__).resolve().parents[2]
MODULES = (
    *("aiohttp", "fsspec", "google.protobuf.descriptor_pb2", "grpc.aio", "jsonschema", "pandas", "pyarrow.fs"),
    *("pyarrow.parquet", "requests", "rich.console", "tensorboardX"),
    *("mcl_ray.data.source", "mcl_ray.training.build", "mcl_ray.training.recorded_run"),
)
"""What a worker that trains imports, without what imports ray."""


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


def next_worker(listener: socket.socket, added: dict[str, str]) -> list[str] | None:
    """Fork a worker for each process that connects, until the input ends; return its arguments in its process."""
    while listener in select.select([listener, 0], [], [])[0]:
        asking, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            return _become_worker(asking, added)
        asking.close()
    return None


def _become_worker(asking: socket.socket, added: dict[str, str]) -> list[str]:
    """Fork a worker, and be its guard here: it ends with the process that asks for it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, descriptors, _, _ = socket.recv_fds(asking, ray_worker.MAX_BYTES, 3)
    if not message:
        os._exit(0)
    request: dict[str, Any] = json.loads(message)
    if (worker := os.fork()) == 0:
        asking.close()
        os.nice(request["niceness"])
        return fork_server.become(request, descriptors, added)
    for descriptor in descriptors:
        os.close(descriptor)
    with contextlib.suppress(BrokenPipeError):  # it has ended meanwhile
        asking.send(str(worker).encode())
    select.select([asking, os.pidfd_open(worker)], [], [])
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker, signal.SIGKILL)
    os._exit(0)


def main() -> list[str] | None:
    """Import and serve; return the arguments of a worker in its process."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind("\0" + sys.argv[1])
    listener.listen(100)
    os.write(1, b"listening\n")
    before = dict(os.environ)
    for name in MODULES:
        importlib.import_module(name)
    assert "ray" not in sys.modules
    assert threading.active_count() == 1, "only a process of one thread is forked"
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nothing is left of a worker that has ended
    return next_worker(listener, {name: value for name, value in os.environ.items() if name not in before})


if __name__ == "__main__" and (program := main()) is not None:
    fork_server.run(program)
