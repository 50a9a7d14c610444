"""The watch over a Ray: once its raylet or its GCS has ended, the work ends in order, and nothing of it is left.

Ray itself would end this process without a word to Python: soon after the death of a raylet, a minute after the GCS's.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray.exceptions import RayError

from mcl_ray.errors import ClusterLostError

NEEDED = ("raylet", "gcs_server")
NAMES = {"raylet": "raylet", "gcs_server": "GCS"}
POLL_S = 0.5
SEEN_AFTER_S = 1.0
"""Time after which the end of a process is certainly seen; its connections close before."""
REJOINED_WITHIN_S = 45.0
"""Time for which the head of a cluster may be away: until it is back, Ray tries to join it again, for 60 s."""
CONNECTS_WITHIN_S = 2.0
KILLED_WITHIN_S = 60.0
LOST = signal.SIGUSR2
"""Signal by which the main thread is interrupted: libraries have handlers of their own for SIGINT while they work."""


class RayWatch(ABC):
    """Watches what this process needs of a Ray, in a thread, and interrupts the main thread."""

    def __init__(self) -> None:
        """Start to watch."""
        self._is_over = threading.Event()
        self._handler_before = signal.signal(LOST, self._interrupt)
        self.lost: str | None = None
        """Name of the process that has ended, `raylet` or `gcs_server`; None while none has."""
        self._thread = threading.Thread(target=self._watch, name="ray-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop to watch: from now on, the processes may end."""
        self._is_over.set()
        self._thread.join()
        if threading.current_thread() is threading.main_thread():
            signal.signal(LOST, self._handler_before or signal.SIG_DFL)

    def explains(self, error: BaseException) -> bool:
        """Return whether a process of Ray has ended; an error of Ray may come shortly before this is seen."""
        deadline = time.monotonic() + (SEEN_AFTER_S if isinstance(error, RayError | RuntimeError) else 0)
        while not self._look() and time.monotonic() < deadline:
            time.sleep(SEEN_AFTER_S / 20)
        return self.lost is not None

    @abstractmethod
    def error(self) -> ClusterLostError:
        """Return the error by which the work ends."""

    @abstractmethod
    def end_rest(self) -> None:
        """End what is left of Ray, as far as this process has started it."""

    @abstractmethod
    def _ended(self) -> str | None:
        """Return the name of a process that has ended, if any."""

    def _watch(self) -> None:
        while not self._is_over.wait(POLL_S):
            if self._look():
                signal.pthread_kill(threading.main_thread().ident or 0, LOST)
                return

    def _look(self) -> bool:
        self.lost = self.lost or self._ended()
        return self.lost is not None

    def _interrupt(self, *_: object) -> None:
        """Raise KeyboardInterrupt in the main thread, unless nothing needs Ray any more."""
        if not self._is_over.is_set():
            raise KeyboardInterrupt


class LocalRayWatch(RayWatch):
    """Watches the processes that this process has started as a local Ray."""

    def __init__(self, processes: dict[str, list[subprocess.Popen[bytes]]]) -> None:
        """Start to watch; `processes` are those of Ray, by their names."""
        self._processes = processes
        super().__init__()

    def error(self) -> ClusterLostError:
        """Return the error by which the work ends."""
        return local_ray_lost(self.lost or "raylet")

    def end_rest(self) -> None:
        """Kill all that is left of Ray: its processes, each of which has a session of its own, and those below them.

        Returns once they have ended, on a busy machine long after the signal, or after a while: one that waits for a
        disk may not end.
        """
        sessions = {process.pid for listed in self._processes.values() for process in listed}
        deadline = time.monotonic() + KILLED_WITHIN_S
        while (left := list(_members(sessions))) and time.monotonic() < deadline:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    def _ended(self) -> str | None:
        return ended_process(self._processes)


class ClusterWatch(RayWatch):
    """Watches the head of a cluster, which may be away for a while, and the raylet of this node."""

    def __init__(self, address: str, raylet: int | None, *, rejoined_within_s: float = REJOINED_WITHIN_S) -> None:
        """Start to watch.

        Args:
            address: Of the head, as host:port.
            raylet: The process of this node's raylet; None if it is out of sight, as in another container.
            rejoined_within_s: Time for which the head may be away.
        """
        self._address, self._limit_s, self._away_since = address, rejoined_within_s, 0.0
        self._raylet = None if raylet is None else os.pidfd_open(raylet)
        super().__init__()

    def stop(self) -> None:
        """Stop to watch."""
        super().stop()
        if self._raylet is not None:
            os.close(self._raylet)
            self._raylet = None

    def error(self) -> ClusterLostError:
        """Return the error by which the work ends."""
        if self.lost == "raylet":
            return ClusterLostError(
                f"this node of the Ray cluster at {self._address} must run until the end, but its raylet has ended"
            )
        return ClusterLostError(
            f"the head of the Ray cluster at {self._address} must answer, or come back within {self._limit_s:g} s, but "
            "has not"
        )

    def end_rest(self) -> None:
        """Leave the cluster as it is, which others use."""

    def _ended(self) -> str | None:
        if self._raylet is not None and select.select([self._raylet], [], [], 0)[0]:
            return "raylet"
        if self._answers():
            self._away_since = 0.0
            return None
        now = time.monotonic()
        self._away_since = self._away_since or now
        return "gcs_server" if now - self._away_since >= self._limit_s else None

    def _answers(self) -> bool:
        host, _, port = self._address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECTS_WITHIN_S).close()
        except OSError:
            return False
        return True


def processes_of(node: Any) -> dict[str, list[subprocess.Popen[bytes]]]:
    """Return the processes that this one has started for a node, by their names; `node` is Ray's own object of it."""
    return {name: [info.process for info in infos] for name, infos in node.all_processes.items()}


def ended_process(
    processes: Mapping[str, Iterable[subprocess.Popen[bytes]]], needed: Iterable[str] = NEEDED
) -> str | None:
    """Return the name of a process that is needed and has ended, if any, among those of a node by their names."""
    ended = (name for name in needed if any(one.poll() is not None for one in processes.get(name, ())))
    return next(ended, None)


def local_ray_lost(name: str) -> ClusterLostError:
    """Return the error of a local Ray, a process of which has ended, by its name."""
    return ClusterLostError(
        f"the local Ray must run until the end, but its {NAMES[name]} has ended: killed, or out of memory"
    )


def _members(sessions: Container[int]) -> Iterator[int]:
    """Yield the processes of sessions that run; those that have ended, and whose parent has not asked, do not."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if state not in "ZX" and os.getsid(int(entry.name)) in sessions:
                yield int(entry.name)


def watch_local_ray() -> LocalRayWatch | None:
    """Watch the Ray that this process has started; None off the main thread, which alone can be interrupted."""
    node = _node()
    if node is None:
        return None
    return LocalRayWatch(processes_of(node))


def watch_cluster() -> ClusterWatch | None:
    """Watch the cluster that this process has joined; None off the main thread, which alone can be interrupted."""
    node = _node()
    if node is None:
        return None
    return ClusterWatch(node.gcs_address, _raylet_with(str(node.raylet_socket_name)))


def _node() -> Any:
    """Return Ray's own object of the node that this process is connected to; None off the main thread."""
    import ray

    node: Any = ray._private.worker._global_node
    if node is None or threading.current_thread() is not threading.main_thread():
        return None
    worker: Any = ray._private.worker.global_worker
    worker.threads_stopped.set()  # of its listener alone, which would print the raylet's log
    worker.gcs_error_subscriber.close()
    return node


def _raylet_with(socket_name: str) -> int | None:
    """Return the process of the raylet that listens on a socket; None if it is not seen here."""
    for entry in Path("/proc").iterdir():
        with suppress(ValueError, OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"raylet") and any(word.endswith(f"={socket_name}".encode()) for word in words):
                return int(entry.name)
    return None
