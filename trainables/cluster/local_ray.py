"""A Ray of the service's own on this machine: started with ports of its own, watched, and ended with the service.

Another Ray may run here. The processes of ours carry a marker in their environment, so that whatever is left after a
crash is found again: a head that still runs is used further, anything else is ended.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

MARKER = "MCL_SERVICE_RAY"
DRIVER_RESOURCE = "mcl_driver"
DRIVER = b"mcl_ray.job"
"""Argument by which the driver of a job is found."""
PORTS = (
    "port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "metrics-export-port",
    "ray-client-server-port",
    "node-manager-port",
    "object-manager-port",
)
"""Options of `ray start`; with the defaults, the agent of a second Ray fails in silence."""
GIVEN_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
FEWEST_PORTS = 10_000
"""Ports to choose from, so that two services seldom choose the same."""
OBJECT_STORE_BYTES = 200_000_000
DRIVERS_END_WITHIN_S = 60.0
"""Time for which drivers may record how far they are, as long as those of jobs that are cancelled."""
ENDS_WITHIN_S = 15.0
RAYLET_STARTS_WITHIN_S = 300.0
RAYLET_IS_AWAY_FOR_S = 5.0

log = logging.getLogger(__name__)


class LocalRay:
    """The Ray of a state folder; one service at a time has the folder."""

    PROGRAM: tuple[str, ...] = ("-m", "ray.scripts.scripts")
    """Words with which an interpreter is `ray`."""

    def __init__(self, state: Path) -> None:
        self._state, self._file = state.absolute(), state.absolute() / "ray.json"
        self._marker = f"{MARKER}={self._state}".encode()
        name = hashlib.sha256(self._marker).hexdigest()[:8]
        self.folder = Path(tempfile.gettempdir()) / f"mcl-ray-{name}"  # the names of sockets must be short
        self._is_stopping = threading.Event()
        self._ports, self._head = self._read() or (_free_ports(), 0)
        self._thread = threading.Thread(target=self._watch, name="ray", daemon=True)
        self.token_file = self._state / "ray_token"

    @property
    def url(self) -> str:
        """The address of the dashboard."""
        return f"http://127.0.0.1:{self._ports['dashboard-port']}"

    @property
    def ports(self) -> dict[str, int]:
        """Option of `ray start` → port."""
        return self._ports

    @property
    def head(self) -> int:
        """The process of the head."""
        return self._head

    def start(self) -> None:
        """Use the head that still runs, or start one; then start it again whenever it ends."""
        if not self.token_file.exists():
            self.token_file.touch(mode=0o600)
            self.token_file.write_text(secrets.token_hex(32))
        self._thread.start()

    def stop(self) -> None:
        """End every process of this Ray; drivers of jobs first, which record that they were interrupted."""
        self._is_stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._interrupt_drivers()
        self._end()
        self._file.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self) -> set[int]:
        """Return the processes of this Ray that run: those with the marker, and all others of their sessions.

        A process that changes its title may overwrite its environment, as Ray's agents do.
        """
        sessions: dict[int, int] = {}
        marked = set()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                process = int(folder.name)
                if environment := (folder / "environ").read_bytes():  # one that has ended has none
                    sessions[process] = os.getsid(process)
                    if self._marker in environment.split(b"\0"):
                        marked.add(sessions[process])
        return {process for process, session in sessions.items() if session in marked}

    def _watch(self) -> None:
        raylet_by = time.monotonic() + RAYLET_STARTS_WITHIN_S
        while True:
            processes = self.processes()
            if any(_name(process) == "raylet" for process in processes):
                raylet_by = time.monotonic() + RAYLET_IS_AWAY_FOR_S
            # `ray start --block` stays without its raylet, which ends with its agent: then jobs would run for ever.
            if self._head not in processes or time.monotonic() > raylet_by:
                self._end()
                self._spawn()
                raylet_by = time.monotonic() + RAYLET_STARTS_WITHIN_S
            if self._is_stopping.wait(1.0):
                return

    def _spawn(self) -> None:
        log.info("Ray starts, its dashboard on port %d", self._ports["dashboard-port"])
        options = {
            **self._ports,
            "node-ip-address": "127.0.0.1",
            "dashboard-host": "127.0.0.1",
            "include-dashboard": "true",
            "include-log-monitor": "false",  # it polls every log file, and no driver asks for the output of workers
            "min-worker-port": 0,
            "max-worker-port": 0,
            "object-store-memory": OBJECT_STORE_BYTES,
            "resources": json.dumps({DRIVER_RESOURCE: 1000}),
            "temp-dir": self.folder,
        }
        words = [f"--{option}={value}" for option, value in options.items()]
        command = [sys.executable, *self.PROGRAM, "start", "--head", "--block", *words]
        with (self._state / "ray.log").open("ab") as output:
            head = subprocess.Popen(  # noqa: S603
                command,
                env=self._environment(),
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        threading.Thread(target=head.wait, daemon=True).start()  # no zombie
        self._head = head.pid
        self._file.write_text(json.dumps({"ports": self._ports, "head": self._head}))

    def _environment(self) -> dict[str, str]:
        """Return the environment of Ray and so of drivers: nothing of the service's own, which may be secret."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MCL_", "RAY_"))}
        return kept | {
            MARKER: str(self._state),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_prestart_worker_first_driver": "0",  # idle workers, one per core, that a job with variables cannot use
        }

    def _drivers(self) -> set[int]:
        found = set()
        for process in self.processes():
            with contextlib.suppress(OSError):
                if DRIVER in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0"):
                    found.add(process)
        return found

    def _interrupt_drivers(self) -> None:
        """Have the drivers of jobs end in order, so that the next service resumes them without counting a loss."""
        for process in self._drivers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGINT)
        deadline = time.monotonic() + DRIVERS_END_WITHIN_S
        while self._drivers() and time.monotonic() < deadline:
            time.sleep(0.1)

    def _end(self) -> None:
        """End what runs: the head in order, as it then ends its children, and the rest at once."""
        if (head := self._head) in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(head, signal.SIGTERM)
        deadline = time.monotonic() + ENDS_WITHIN_S
        while left := self.processes():
            if head not in left or time.monotonic() > deadline:
                for process in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
            time.sleep(0.1)

    def _read(self) -> tuple[dict[str, int], int] | None:
        """Return the ports and the head of the Ray that an earlier service started."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            facts = json.loads(self._file.read_text())
            if set(facts["ports"]) == set(PORTS):
                return facts["ports"], int(facts["head"])
        return None


def _name(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/comm").read_text().strip()
    return ""


def _free_ports() -> dict[str, int]:
    """Return a port for each option that nothing listens on, and that no program gets from the system by chance.

    Ray takes them some time later, and again whenever its head is started again.
    """
    found: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        while len(found) < len(PORTS):
            one = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                one.bind(("127.0.0.1", _any_port()))
                found[one.getsockname()[1]] = one
        return dict(zip(PORTS, found, strict=True))


def _any_port() -> int:
    """Return one below those that the system gives to whoever asks for any; 0, for one of these, if there are few."""
    try:
        first = int(GIVEN_PORTS.read_text().split()[0])
    except OSError:  # not Linux
        first = 0
    return random.SystemRandom().randrange(first - FEWEST_PORTS, first) if first >= 2 * FEWEST_PORTS else 0
