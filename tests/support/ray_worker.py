"""What a raylet of the tests starts for a worker: it has one forked by `tests.support.ray_worker_server`, and waits.

Usage: python ray_worker.py OPTIONS, in place of Ray's default_worker.py; and python ray_worker.py WORKER.py OPTIONS, in
place of Ray's setup_worker.py, which imports ray only to start the worker with the variables of its runtime
environment. Each of the two, this process and the worker, ends with the other.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

SERVER = "TESTS_RAY_WORKER_SERVER"
"""Variable with the name of the server's socket, which is in no folder."""
MAX_BYTES = 1 << 20
"""Longer than any request: a command line with an environment."""
FOR_SETUP = ("--serialized-runtime-env-context=", "--language=")
"""Options that a raylet adds for setup_worker.py, which does not pass them on."""


def main() -> None:
    """Have a worker forked that is to its raylet what this process would be; return when it has ended.

    This process shows its worker as its name, which `ps` calls its command.
    """
    worker, options = _command(sys.argv[1:])
    os.environ.update(_variables(worker, options))
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_BYTES)
    server.connect("\0" + os.environ[SERVER])
    request = {
        "arguments": [__file__, worker, *(word for word in options if not word.startswith(FOR_SETUP))],
        "environment": dict(os.environ),
        "folder": str(Path.cwd()),
        "session": True,
        "niceness": os.nice(0),
    }
    socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
    forked = int(server.recv(100))
    with contextlib.suppress(ProcessLookupError):
        ended = os.pidfd_open(forked)
        Path("/proc/self/comm").write_text(str(forked))
        signal.signal(signal.SIGTERM, lambda number, frame: os.kill(forked, number))
        select.select([ended], [], [])


def _command(words: list[str]) -> tuple[str, list[str]]:
    """Return the program of Ray's that is a worker, and its options."""
    given, options = (words[0], words[1:]) if words[0].endswith(".py") else (__file__, words)
    if given != __file__:
        return given, options
    found = find_spec("ray")
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).with_name("_private") / "workers" / "default_worker.py"), options


def _variables(worker: str, options: list[str]) -> dict[str, str]:
    """Return the variables of the worker's runtime environment; Ray sets up one that has more than variables."""
    contexts = [word.removeprefix(FOR_SETUP[0]) for word in options if word.startswith(FOR_SETUP[0])]
    wanted = json.loads(contexts[0]) if contexts else {}
    variables: dict[str, str] = wanted.pop("env_vars", {})
    is_plain = wanted.pop("py_executable", sys.executable) == sys.executable and not any(wanted.values())
    if not is_plain or any("$" in value for value in variables.values()):
        os.execv(sys.executable, [sys.executable, str(Path(worker).with_name("setup_worker.py")), worker, *options])
    return variables


def worker_of(process: int) -> int | None:
    """Return the worker that is forked for a process like this one, if it is one."""
    with contextlib.suppress(OSError):
        if (name := Path(f"/proc/{process}/comm").read_text().strip()).isdigit():
            return int(name)
    return None


if __name__ == "__main__":
    main()
