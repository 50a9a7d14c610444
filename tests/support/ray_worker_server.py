"""A process that imports once what workers of Ray import, and forks the workers of the nodes of a Ray of the tests.

Usage: python -m tests.support.ray_worker_server NAME; `tests.support.ray_worker` asks it, which a raylet starts for
each worker. The imports take 3 s of CPU time, more than most trials of the tests. Ray itself is left to the worker: it
reads the worker's job from the environment when it is imported.
"""

from __future__ import annotations

import fcntl
import gc
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

from tests.support import fork_server, ray_worker

MODULES = (
    *("aiohttp", "fsspec", "google.protobuf.descriptor_pb2", "grpc.aio", "jsonschema", "pandas", "pyarrow.fs"),
    *("pyarrow.parquet", "requests", "rich.console", "tensorboardX"),
    *("mcl_ray.data.source", "mcl_ray.training.build", "mcl_ray.training.recorded_run"),
)
"""What a worker that trains imports, without what imports ray."""
F_SETSIG = 10
"""Of Linux: the signal that F_SETOWN's process gets. The module `fcntl` has no name for it."""


def start(name: str) -> subprocess.Popen[bytes]:
    """Start a server that raylets of this process find, and which says "ready"; end it after them."""
    os.environ[ray_worker.SERVER] = name
    return subprocess.Popen([sys.executable, "-m", __name__, name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


def next_worker(listener: socket.socket, added: dict[str, str]) -> list[str]:
    """Fork a worker for each process that connects; return the arguments of each in its process."""
    while True:
        asking, _ = listener.accept()
        message, descriptors, _, _ = socket.recv_fds(asking, ray_worker.MAX_BYTES, 3)
        if message and os.fork() == 0:
            listener.close()
            return _become_worker(asking, json.loads(message), descriptors, added)
        for descriptor in descriptors:
            os.close(descriptor)
        asking.close()


def _become_worker(
    asking: socket.socket, request: dict[str, Any], descriptors: list[int], added: dict[str, str]
) -> list[str]:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        os.setpgid(0, request["group"])  # which the raylet ends with the worker
    except PermissionError:  # the raylet has a session of its own, as that of a command has
        os.setsid()
    os.nice(request["niceness"])
    _end_with(asking)
    try:
        asking.send(str(os.getpid()).encode())
    except BrokenPipeError:  # it has been killed meanwhile
        sys.exit(1)
    asking.detach()
    return fork_server.become(request, descriptors, added)


def _end_with(asking: socket.socket) -> None:
    """Have the kernel kill this process when the other end of the connection is closed."""
    fcntl.fcntl(asking, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(asking, F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(asking, fcntl.F_SETFL, os.O_ASYNC)


def main() -> list[str]:
    """Import, say so, and serve; return the arguments of a worker in its process."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind("\0" + sys.argv[1])
    listener.listen(100)
    before = dict(os.environ)
    for name in MODULES:
        importlib.import_module(name)
    assert "ray" not in sys.modules
    assert threading.active_count() == 1, "only a process of one thread is forked"
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nothing is left of a worker that has ended
    os.write(1, b"ready\n")
    return next_worker(listener, {name: value for name, value in os.environ.items() if name not in before})


if __name__ == "__main__":
    options = main()
    (ray,) = importlib.util.find_spec("ray").submodule_search_locations
    fork_server.run([f"{ray}/_private/workers/default_worker.py", *options])
