"""The watch over a local Ray: once its raylet or its GCS has ended, the work ends in order, and nothing of it is left.

Ray itself would end this process without a word to Python: soon after the death of a raylet, a minute after the GCS's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray.exceptions import RayError

from mcl_ray.errors import ClusterLostError

NEEDED = ("raylet", "gcs_server")
POLL_S = 0.5
SEEN_AFTER_S = 1.0
"""Time after which the end of a process is certainly seen; its connections close before."""
LOST = signal.SIGUSR2
"""Signal by which the main thread is interrupted: libraries have handlers of their own for SIGINT while they work."""
REAPER = 'read -r line; kill -s KILL -- "$@"'
"""Shell script that waits for the end of its input and then kills groups of processes."""


class LocalRayWatch:
    """Watches the processes that this process has started as a local Ray, and interrupts the main thread."""

    def __init__(self, processes: dict[str, list[subprocess.Popen[bytes]]]) -> None:
        """Start to watch; `processes` are those of Ray, by their names."""
        self._processes, self._is_over = processes, threading.Event()
        self._handler_before = signal.signal(LOST, self._interrupt)
        self.lost: str | None = None
        """Name of the process that has ended, `raylet` or `gcs_server`; None while none has."""
        # If this process is killed, Ray's agents would stay for up to a minute, in which they look for their GCS. What
        # kills them inherits the signals that are blocked here: a SIGTERM to every process must not end it before.
        groups = [f"-{process.pid}" for listed in processes.values() for process in listed]
        self._reaper = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", REAPER, "sh", *groups],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._thread = threading.Thread(target=self._watch, name="ray-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop to watch: from now on, the processes may end."""
        self._is_over.set()
        self._thread.join()
        if threading.current_thread() is threading.main_thread():
            signal.signal(LOST, self._handler_before or signal.SIG_DFL)
        self._reaper.kill()
        self._reaper.communicate()

    def explains(self, error: BaseException) -> bool:
        """Return whether a process of Ray has ended; an error of Ray may come shortly before this is seen."""
        deadline = time.monotonic() + (SEEN_AFTER_S if isinstance(error, RayError | RuntimeError) else 0)
        while self._look() is None and time.monotonic() < deadline:
            time.sleep(SEEN_AFTER_S / 20)
        return self.lost is not None

    def error(self) -> ClusterLostError:
        """Return the error by which the work ends."""
        name = {"raylet": "raylet", "gcs_server": "GCS"}.get(self.lost or "", self.lost)
        return ClusterLostError(
            f"the local Ray must run until the end, but its {name} has ended: killed, or out of memory"
        )

    def end_rest(self) -> None:
        """Kill all that is left of Ray: its processes, each of which has a session of its own, and those below them."""
        sessions = {process.pid for listed in self._processes.values() for process in listed}
        for entry in Path("/proc").iterdir():
            with suppress(ValueError, OSError):
                pid = int(entry.name)
                if os.getsid(pid) in sessions:
                    os.kill(pid, signal.SIGKILL)

    def _watch(self) -> None:
        while not self._is_over.wait(POLL_S):
            if self._look() is not None:
                signal.pthread_kill(threading.main_thread().ident or 0, LOST)
                return

    def _look(self) -> str | None:
        """Return the name of a process that has ended, which is kept."""
        ended = (name for name in NEEDED if any(one.poll() is not None for one in self._processes.get(name, ())))
        self.lost = self.lost or next(ended, None)
        return self.lost

    def _interrupt(self, *_: object) -> None:
        """Raise KeyboardInterrupt in the main thread, unless nothing needs Ray any more."""
        if not self._is_over.is_set():
            raise KeyboardInterrupt


def watch_local_ray() -> LocalRayWatch | None:
    """Watch the Ray that this process has started; None off the main thread, which alone can be interrupted."""
    import ray

    node: Any = ray._private.worker._global_node
    if node is None or threading.current_thread() is not threading.main_thread():
        return None
    worker: Any = ray._private.worker.global_worker
    worker.threads_stopped.set()  # of its listener alone, which would print the raylet's log
    worker.gcs_error_subscriber.close()
    return LocalRayWatch({name: [info.process for info in infos] for name, infos in node.all_processes.items()})
