"""Commands as processes that are forked from one that has imported their modules, which is most of what a start takes.

Such a process is a child of the test like any other: `subprocess.Popen` with its streams, signals, exit code and
session. It differs in what is settled before a program begins: what the imported modules read of the environment (a
variable that is not in `PER_PROCESS` leads to another server), the seed of hashes, and the order of imports. A test
about these, about the start itself, or about results that must be the same in every process has its own
interpreter.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import inspect
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support import ray_worker

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    *("mcl_ray.cli.main", "mcl_ray.cli.train", "mcl_ray.cli.sweep", "mcl_ray.cli.sweep_terminal", "mcl_ray.sdk.tuner"),
    *("mcl_ray.reports.progress", "mcl_ray.results.store", "searches.spec.search_registry"),
    "searches.spec.suite_registry",
)
"""What the commands have imported when they know whether their input is good."""
SERVICE = ("alembic.command", "alembic.config", "api.app", "mcl_ray.cli.serve", "psycopg", "sqlite3", "uvicorn")
TRAINING = (
    *(*COMMANDS, "mcl_ray.job_kinds", "mcl_ray.reports.build", "mcl_ray.sdk.trainer", "mcl_ray.training.recorded_run"),
    *("mcl_ray.data.source", "mcl_ray.training.build", "mcl_ray.transfer.bundle", "pandas", "tensorboardX"),
)
"""What trains, evaluates and exports without Ray."""
ON_RAY = (
    *("tests.support.ray_ids", *COMMANDS, "optuna.importance", "searches.conclude", "searches.sweep_runner"),
    *("searches.tune.tuner", "tests.support.own_ray"),
)
"""What trains and searches on Ray. Of a Ray that such a process starts, the workers are forked, too."""
PER_PROCESS = {
    *("MCL_DATABASE_URL", "PYTEST_CURRENT_TEST", "RAY_AUTH_TOKEN_PATH", "XDG_CACHE_HOME", ray_worker.SERVER),
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),  # of torchrun
}
"""Variables that nothing keeps that is imported; a server has those of the tests."""
MAX_SERVERS = 3
"""Each takes up to half a gigabyte."""
LEFT_OUT = ("executable", "preexec_fn", "pass_fds", "shell", "gid", "gids", "uid")
"""Options of `subprocess.Popen` that are not implemented."""
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


class ForkedProcess(subprocess.Popen[Any]):
    """`subprocess.Popen`, for a list of arguments that begins with this interpreter."""

    def __init__(self, arguments: list[str], modules: tuple[str, ...], **options: Any) -> None:
        assert arguments[0] == sys.executable, arguments
        self._modules = modules
        super().__init__(arguments, **options)

    def _execute_child(self, *given: Any) -> None:
        call = inspect.signature(subprocess.Popen._execute_child).bind(self, *given).arguments
        assert not any(call[name] for name in LEFT_OUT), f"a forked process has none of {LEFT_OUT}"
        environment = dict(os.environ if call["env"] is None else call["env"])
        ends = (("p2cread", 0), ("c2pwrite", 1), ("errwrite", 2))
        streams = [own if call[name] == -1 else call[name] for name, own in ends]
        request = {
            "arguments": [str(word) for word in call["args"]],
            "environment": environment,
            "folder": str(call["cwd"] or Path.cwd()),
            "session": call["start_new_session"],
            "group": call["process_group"],
        }
        try:
            self.pid = _server(self._modules, environment).fork(request, streams)
            self._child_created = True
        finally:
            self._close_pipe_fds(
                *(call[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"))
            )


def run(
    arguments: list[str], modules: tuple[str, ...], *, timeout: float, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as `subprocess.run` does with `capture_output` and `text`."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with ForkedProcess(arguments, modules, **pipes | options) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


class _Server:
    """A process of `tests.support.fork_server`; it ends with this one."""

    def __init__(self, modules: tuple[str, ...], environment: dict[str, str]) -> None:
        self._lock = threading.Lock()
        self._control, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        with far, tempfile.TemporaryFile() as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.fork_server", str(far.fileno()), *modules],
                cwd=ROOT,
                env=_without(environment) | {name: os.environ[name] for name in PER_PROCESS & os.environ.keys()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                pass_fds=[far.fileno()],
            )
            far.close()
            is_ready = self._control.recv(10) == b"ready"
            said.seek(0)
            errors = said.read().decode()
        if errors or not is_ready:
            self.close()
            raise AssertionError(f"importing {modules} says {errors}")

    def fork(self, request: dict[str, Any], streams: list[int]) -> int:
        """Return the process id of a new child process, which has these streams."""
        with self._lock, _adopting():
            socket.send_fds(self._control, [json.dumps(request).encode()], streams)
            return int(self._control.recv(100))

    def close(self) -> None:
        """End it; what it has forked lives on."""
        self._control.close()
        self._process.wait()


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """Be the parent of orphaned processes below this one, meanwhile."""
    assert _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _without(environment: dict[str, str]) -> dict[str, str]:
    """Return variables without those of each process."""
    return {name: value for name, value in environment.items() if name not in PER_PROCESS}


_servers: dict[tuple[Any, ...], _Server] = {}
"""The last ones that were used, latest last."""


def _server(modules: tuple[str, ...], environment: dict[str, str]) -> _Server:
    """Return the server of these modules and variables."""
    key = (os.getpid(), modules, frozenset(_without(environment).items()))
    server = _servers.pop(key, None)
    if server is None:
        while len(_servers) >= MAX_SERVERS:
            _servers.pop(next(iter(_servers))).close()
        server = _Server(modules, environment)
        atexit.register(server.close)
    _servers[key] = server
    return server
