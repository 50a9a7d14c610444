"""A process that imports modules once, and then forks one process after the other, each of which runs a program.

Usage: python -m tests.support.fork_server DESCRIPTOR MODULE…; `tests.support.forked` starts it and says how it is used.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from mcl_ray.garbage import exit_process

MAX_BYTES = 1 << 20
"""Longer than any request: a command line with an environment."""


def next_request(control: socket.socket, added: dict[str, str]) -> list[str] | None:
    """Answer requests with the process id of a new process each; return the arguments of it in there, and None at last.

    The one that asks is a reaper of orphans meanwhile, so that the new process, whose parent has ended, is its child.
    """
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, MAX_BYTES, 3)
        if not message:
            return None
        reading, writing = os.pipe()
        if (parent := os.fork()) == 0:
            between = os.getpid()
            if child := os.fork():
                os.write(writing, str(child).encode())
                os._exit(0)
            while os.getppid() == between:  # until it has ended, and this process is the child of the one that asks
                time.sleep(0.001)
            control.close()
            os.close(reading)
            os.close(writing)
            return become(json.loads(message), descriptors, added)
        os.close(writing)
        for descriptor in descriptors:
            os.close(descriptor)
        os.waitpid(parent, 0)  # from here on, the child is the other's
        control.send(os.read(reading, 100))
        os.close(reading)


def become(request: dict[str, Any], descriptors: list[int], added: dict[str, str]) -> list[str]:
    """Take on streams, session, group, folder and environment; variables that imported modules have set stay set."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    if request["session"]:
        os.setsid()
    if (group := request.get("group", -1)) >= 0:  # none of a worker of Ray, which has a session
        os.setpgid(0, group)
    _set_title(request["arguments"])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(added | request["environment"])
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()
    return list(request["arguments"][1:])


def _set_title(arguments: list[str]) -> None:
    """Show the command line of the program to `ps`, where a module that can is loaded."""
    if raylet := sys.modules.get("ray._raylet"):
        raylet.setproctitle(" ".join(arguments))


def run(arguments: list[str]) -> None:
    """Run what `python ARGUMENTS` would: a module (-m) or a file; `-X importtime` lists what is imported, untimed."""
    if arguments[:2] == ["-X", "importtime"]:
        arguments = arguments[2:]
        _list_imports()
    if arguments[0] == "-m":
        sys.argv[:] = arguments[1:]
        sys.path[0] = str(Path.cwd())
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = arguments
        sys.path[0] = os.path.dirname(arguments[0])  # noqa: PTH120  # as the interpreter does
        runpy.run_path(arguments[0], run_name="__main__")


def run_to_its_end(arguments: list[str]) -> NoReturn:
    """Run a program, and end this process as the interpreter does, but for the destruction of all that is imported.

    That would copy the memory which this process shares with its server, object by object: 0.4 s of CPU time.
    """
    try:
        run(arguments)
    except SystemExit as end:
        exit_process(end.code)
    except KeyboardInterrupt:
        raise
    except BaseException:
        sys.excepthook(*sys.exc_info())
        exit_process(1)
    exit_process(0)


def _list_imports() -> None:
    """Say on stderr what has been imported, and what is from now on, as the interpreter itself does."""

    def say(name: str) -> None:
        with contextlib.suppress(OSError):
            os.write(2, f"import time: 0 | 0 | {name}\n".encode())

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "import":
            say(arguments[0])

    for name in list(sys.modules):
        say(name)
    sys.addaudithook(hear)


def main() -> list[str] | None:
    """Import the modules, say so, and serve; return the arguments of a program in its process."""
    control, before = socket.socket(fileno=int(sys.argv[1])), dict(os.environ)
    for name in sys.argv[2:]:
        importlib.import_module(name)
    assert threading.active_count() == 1, "only a process of one thread is forked"
    gc.freeze()
    control.send(b"ready")
    return next_request(control, {name: value for name, value in os.environ.items() if name not in before})


if __name__ == "__main__" and (program := main()) is not None:
    run_to_its_end(program)
