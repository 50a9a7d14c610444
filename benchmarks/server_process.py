"""Servers of the benchmarks, as processes of their own: the service, and the bare application."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path

from benchmarks.commits import CHECKOUT
from tests.support.ports import free_port

NO_RAY = "--address=http://127.0.0.1:9"
"""Address at which nothing answers."""


class ServerProcess:
    """A server that can be started, killed and started again, and its memory."""

    def __init__(self, folder: Path, arguments: list[str], port: int, probe: str) -> None:
        self._log, self._arguments, self._probe = folder / "server.log", arguments, probe
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    def of_service(cls, folder: Path, url: str, *options: str) -> ServerProcess:
        """Return a service on a database, with its results in `folder`."""
        port = free_port()
        arguments = ["mcl_ray.serve", f"--port={port}", f"--state={folder}", f"--results={folder / 'results'}"]
        return cls(folder, [*arguments, f"--database-url={url}", *(options or (NO_RAY,))], port, "/healthz")

    @classmethod
    def of_bare(cls, folder: Path, url: str) -> ServerProcess:
        """Return the bare application on a database."""
        port = free_port()
        return cls(folder, ["benchmarks.bare_service", str(port), url], port, "/openapi.json")

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start, and wait until it answers."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MCL_"))}
        command = [sys.executable, "-m", *self._arguments]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=log, stderr=log)  # noqa: S603
        self.wait_for(self._probe)

    def wait_for(self, path: str) -> None:
        """Wait until an endpoint answers with a success.

        Raises:
            RuntimeError: the process has ended.
        """
        while True:
            assert self.process is not None, "it is started first"
            if self.process.poll() is not None:
                raise RuntimeError(f"the server must run, but it has ended: {self._log.read_text()[-2000:]}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60):
                    return
            except urllib.error.HTTPError as error:
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
                    raise
            except (urllib.error.URLError, ConnectionError):
                pass  # it does not listen yet
            time.sleep(0.02)

    def kill(self) -> None:
        """End it at once, as `kill -9` does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def cpu_s(self) -> float:
        """Return the processor time that it has used."""
        assert self.process is not None, "it is started first"
        numbers = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self, *, peak: bool = False) -> int:
        """Return its resident memory, or the peak since `forget_peak`."""
        assert self.process is not None, "it is started first"
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s*(\d+) kB", text)
        assert found is not None, "Linux shows both"
        return 1024 * int(found[1])

    def forget_peak(self) -> None:
        """Begin the measurement of the peak anew."""
        assert self.process is not None, "it is started first"
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
