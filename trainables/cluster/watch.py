"""The watch over a local Ray: once its raylet or its GCS has ended, the work ends in order, and nothing of it is left.

Ray itself would end this process without a word to Python: soon after the death of a raylet, a minute after the GCS's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from mcl_ray import interruption
from mcl_ray.errors import ClusterLostError

NEEDED = ("raylet", "gcs_server")
POLL_S = 0.5
REAPER = 'read -r line; kill -s KILL -- "$@"'
"""Shell script that waits for the end of its input and then kills groups of processes."""


class LocalRayWatch:
    """Watches the processes that this process has started as a local Ray, and interrupts the main thread."""

    def __init__(self, processes: dict[str, list[subprocess.Popen[bytes]]]) -> None:
        """Start to watch; `processes` are those of Ray, by their names."""
        self._processes, self._is_over = processes, threading.Event()
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
        threading.Thread(target=self._watch, name="ray-watch", daemon=True).start()

    def stop(self) -> None:
        """Stop to watch: from now on, the processes may end."""
        self._is_over.set()
        self._reaper.kill()
        self._reaper.communicate()

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
            for name in NEEDED:
                if any(process.poll() is not None for process in self._processes.get(name, ())):
                    self.lost = name
                    interruption.interrupt()
                    return


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
