"""The driver of a job, which Ray starts on the cluster: `python -m mcl_ray.job --root ROOT --job ID --attempt N`.

It claims its attempt, runs the job's spec by the Python API, and writes how it ended: a manifest for success, an
outcome for the rest. A driver that was given up but still runs, as when only its supervisor or the head died, ends once
the next attempt has been claimed; that one waits until then. Exit codes: 0 done, 1 failed, 2 bad input, 75 another
process has the attempt; an interrupted driver ends by a signal.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mcl_ray.callbacks import EpochEnd, RunCallback, RunStart, SweepCallback, SweepEnd, SweepStart, TrialEnd, TrialInfo
from mcl_ray.config.environment import let_waiting_threads_sleep
from mcl_ray.errors import ClusterLostError, UserError
from mcl_ray.garbage import collect_rarely
from mcl_ray.jobs.claims import Attempts
from mcl_ray.jobs.messages import JobSpec
from mcl_ray.jobs.states import EXIT_FENCED
from mcl_ray.object_store import Uri
from mcl_ray.results.atomic_io import FolderLock

EXIT_FAILED, EXIT_BAD_INPUT = 1, 2
CHUNK_BYTES = 1 << 20
CACHE = "cache"
"""Folder beside the results whose files are made again where they are missing, and which no store has."""
PREDECESSOR_ENDS_WITHIN_S = 600.0
SUCCESSOR_POLL_S = 1.0
REASON_CHARS = 2000
UPLOAD_EVERY_S, UPLOAD_BYTES_PER_S = 5.0, 1 << 20
"""Pause between two uploads of a log to a store; a large one is sent less often."""


class StopSignals(RunCallback, SweepCallback):
    """Has SIGTERM do what SIGINT does: end the run or the sweep in order, with its state recorded.

    Ray replaces the handler of SIGTERM when a process joins it, and blocks SIGINT in an entrypoint.
    """

    def __init__(self) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._install()

    def on_sweep_start(self, start: SweepStart) -> None:
        """Install the handler again, after Ray was joined."""
        self._install()

    def on_heartbeat(self) -> None:
        """Install the handler again, if it was replaced."""
        self._install()

    def _install(self) -> None:
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGTERM) != self._interrupt:
            signal.signal(signal.SIGTERM, self._interrupt)

    def _interrupt(self, *_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)


class JobLog(RunCallback, SweepCallback):
    """Prints the events of a job, one a line, into its log."""

    def on_status(self, message: str) -> None:
        """Print a message."""
        _print(message)

    def on_run_start(self, start: RunStart) -> None:
        """Print the run that starts."""
        _print(f"run {start.run_id}, attempt {start.attempt}")

    def on_epoch_end(self, epoch: EpochEnd) -> None:
        """Print the accuracies of the epoch, and its loss."""
        shown = [row for row in epoch.rows if row.metric.endswith("top1") or row.metric == "loss"]
        figures = ", ".join(f"{row.split} {row.metric} {row.member} {row.value:.4g}" for row in shown)
        _print(f"epoch {epoch.epoch}: {figures}")

    def on_sweep_start(self, start: SweepStart) -> None:
        """Print the sweep that starts."""
        _print(f"sweep {start.sweep_id}: {len(start.earlier)} of {start.trials} trials have ended")

    def on_trial_start(self, trial: TrialInfo) -> None:
        """Print the trial that starts."""
        _print(f"trial {trial.name}: {dict(trial.point)}")

    def on_trial_end(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Print how a trial ended."""
        score = "" if end.result is None else f", score {end.result.score:.4g} after {end.result.epoch} epochs"
        _print(f"trial {trial.name}: {end.state}{score}{f', {end.error}' if end.error else ''}")

    def on_sweep_end(self, end: SweepEnd) -> None:
        """Print whether the best configuration is better than the published point."""
        from mcl_ray.reports.improvement import improvement_line

        conclusion = end.conclusion
        if conclusion is not None and conclusion.improvement is not None:
            _print(improvement_line(conclusion.improvement, conclusion.objective))


def _print(line: str) -> None:
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {line}", flush=True)  # noqa: T201  # this is its log


def main() -> NoReturn:
    """Run one attempt of a job, and exit."""
    let_waiting_threads_sleep()
    collect_rarely()
    parser = argparse.ArgumentParser(prog="python -m mcl_ray.job", description="Run one attempt of a job.")
    parser.add_argument("--root", required=True, help="results root of the service")
    parser.add_argument("--job", required=True, help="id of the job")
    parser.add_argument("--attempt", required=True, type=int, help="attempt, counted from 1")
    given = parser.parse_args()
    root = Uri(given.root) if "://" in given.root else Path(given.root)
    attempts = Attempts(root)
    if not attempts.take(given.job, given.attempt, f"driver {os.uname().nodename} {os.getpid()}"):
        sys.exit(EXIT_FENCED)
    stop_signals = StopSignals()
    threading.Thread(target=_end_for_successor, args=(attempts, given.job, given.attempt), daemon=True).start()
    with _log_to(attempts, given.job, given.attempt):
        code = _attempt(attempts, given.job, given.attempt, [stop_signals, JobLog()])
    if code is None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code or 0)  # a thread of a library that hangs would keep a finished driver


def _attempt(attempts: Attempts, job: str, number: int, callbacks: Sequence[Any]) -> int | None:
    """Run an attempt, and write how it ended; return its exit code, None if it was interrupted."""
    from mcl_ray.job_kinds import run

    try:
        spec = JobSpec.model_validate(attempts.read(job, number, "spec"))
        with _only_writer(attempts.root, spec.origin):
            folder = run(spec, attempts.root, callbacks)
        attempts.write(job, number, "manifest", _manifest(job, number, folder))
    except (KeyboardInterrupt, ClusterLostError) as error:
        _write_outcome(attempts, job, number, "interrupted", str(error) or "the driver was stopped")
        return None
    except Exception as error:
        traceback.print_exc()
        _write_outcome(attempts, job, number, "failed", f"{type(error).__name__}: {error}")
        return EXIT_BAD_INPUT if isinstance(error, UserError) else EXIT_FAILED
    return 0


def _only_writer(root: Uri | Path, origin: str) -> contextlib.AbstractContextManager[object]:
    """Return the lock on a job's results, which waits for a driver that was given up but still runs."""
    if isinstance(root, Uri):
        return contextlib.nullcontext()  # each driver has a replica of its own, and `Uploader` refuses the older one
    return FolderLock(root / "jobs" / origin, name=".driver.lock", wait_s=PREDECESSOR_ENDS_WITHIN_S)


def _end_for_successor(attempts: Attempts, job: str, number: int) -> None:
    """Interrupt this process once the next attempt of its job has a driver."""
    while True:
        with contextlib.suppress(Exception):  # a store that does not answer is asked again
            if attempts.is_claimed(job, number + 1):
                os.kill(os.getpid(), signal.SIGINT)
                return
        time.sleep(SUCCESSOR_POLL_S)


def _write_outcome(attempts: Attempts, job: str, number: int, outcome: str, reason: str) -> None:
    attempts.write(job, number, "outcome", {"outcome": outcome, "reason": reason[:REASON_CHARS], "at": time.time()})


def _manifest(job: str, number: int, folder: Path) -> dict[str, Any]:
    """Return what a job wrote: every file of its results folder but temporary ones and caches, with its checksum."""
    files = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        is_result = relative.parts[0] != CACHE and not any(part.startswith(".") for part in relative.parts)
        if is_result and path.is_file():
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
    with contextlib.nullcontext() if path else _uploaded(local, attempts, job, number):
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()


@contextlib.contextmanager
def _uploaded(local: Path, attempts: Attempts, job: str, number: int) -> Iterator[None]:
    """Send a log to the store again and again while it grows, and once more when it is complete."""
    is_complete = threading.Event()

    def upload() -> None:
        attempts.write_log(job, number, local.read_bytes())

    def upload_while_it_grows() -> None:
        while not is_complete.wait(max(UPLOAD_EVERY_S, local.stat().st_size / UPLOAD_BYTES_PER_S)):
            with contextlib.suppress(Exception):  # the next one has it
                upload()

    thread = threading.Thread(target=upload_while_it_grows, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_complete.set()
        thread.join()
        upload()
        local.unlink()


if __name__ == "__main__":
    main()
