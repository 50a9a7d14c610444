"""The driver of a job, which Ray starts on the cluster: `python -m mcl_ray.job --root ROOT --job ID --attempt N`.

It claims its attempt, runs the job's spec by the Python API, and writes how it ended: a manifest for success, an
outcome for the rest. Exit codes: 0 done, 1 failed, 2 bad input, 75 another process has the attempt; an interrupted driver ends
by the signal it received.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from api.claims import Attempts
from api.models import JobSpec
from api.state import EXIT_FENCED
from mcl_ray.callbacks import RunCallback, SweepCallback
from mcl_ray.errors import UserError
from mcl_ray.object_store import Uri

EXIT_FAILED, EXIT_BAD_INPUT = 1, 2
STOPS = (signal.SIGINT, signal.SIGTERM)
CHUNK_BYTES = 1 << 20
REASON_CHARS = 2000


class Interruption(RunCallback, SweepCallback):
    """Turns the first SIGINT or SIGTERM into KeyboardInterrupt, so that a sweep or a run records where it is.

    Ray replaces the handlers when a driver joins it, and blocks SIGINT in an entrypoint: they are installed again with
    every event.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.install()

    def install(self, *_: object) -> None:
        """Install the handlers, unless they are there."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        for number in STOPS:
            if signal.getsignal(number) != self._handle:
                signal.signal(number, self._handle)

    on_run_start = on_epoch_end = on_step = install
    on_sweep_start = on_trial_start = on_trial_result = on_heartbeat = on_status = install

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.received is None:
            self.received = number
            raise KeyboardInterrupt


def main() -> NoReturn:
    """Run one attempt of a job, and exit."""
    parser = argparse.ArgumentParser(prog="python -m mcl_ray.job", description="Run one attempt of a job.")
    parser.add_argument("--root", required=True, help="results root of the service")
    parser.add_argument("--job", required=True, help="id of the job")
    parser.add_argument("--attempt", required=True, type=int, help="attempt, counted from 1")
    given = parser.parse_args()
    root = Uri(given.root) if "://" in given.root else Path(given.root)
    attempts = Attempts(root)
    if not attempts.take(given.job, given.attempt, f"driver {os.uname().nodename} {os.getpid()}"):
        sys.exit(EXIT_FENCED)
    interruption = Interruption()
    with _log_to(attempts, given.job, given.attempt):
        code = _attempt(attempts, given.job, given.attempt, interruption)
    if interruption.received is not None and code is None:
        signal.signal(interruption.received, signal.SIG_DFL)
        os.kill(os.getpid(), interruption.received)
    sys.stdout.flush()
    os._exit(code or 0)  # a thread of a library that hangs would keep a finished driver


def _attempt(attempts: Attempts, job: str, number: int, interruption: Interruption) -> int | None:
    """Run an attempt, and write how it ended; return its exit code, None if it was interrupted."""
    from mcl_ray.job_kinds import run

    try:
        spec = JobSpec.model_validate(attempts.read(job, number, "spec"))
        folder = run(spec, attempts.root, [interruption])
        attempts.write(job, number, "manifest", _manifest(job, number, folder))
    except KeyboardInterrupt:
        _write_outcome(attempts, job, number, "interrupted", "the driver was stopped")
        return None
    except Exception as error:
        traceback.print_exc()
        _write_outcome(attempts, job, number, "failed", f"{type(error).__name__}: {error}")
        return EXIT_BAD_INPUT if isinstance(error, UserError) else EXIT_FAILED
    return 0


def _write_outcome(attempts: Attempts, job: str, number: int, outcome: str, reason: str) -> None:
    attempts.write(job, number, "outcome", {"outcome": outcome, "reason": reason[:REASON_CHARS], "at": time.time()})


def _manifest(job: str, number: int, folder: Path) -> dict[str, Any]:
    """Return what a job wrote: every file of its results folder that is not a temporary one, with its checksum."""
    files = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts):
            files[str(relative)] = {"bytes": path.stat().st_size, "sha256": _checksum(path)}
    return {"job": job, "attempt": number, "files": files, "at": time.time()}


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _log_to(attempts: Attempts, job: str, number: int) -> Iterator[None]:
    """Send the output of this process, and of those it starts, to the attempt's log."""
    path = attempts.log_path(job, number)
    local = path or Path(tempfile.mkstemp(prefix="mcl-job-", suffix=".log")[1])
    descriptor = os.open(local, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    sys.stdout.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if path is None:
            attempts.write_log(job, number, local.read_bytes())


if __name__ == "__main__":
    main()
