"""Campaign on runs: `train` is killed at random moments and resumed until it ends, as a run that was left alone.

A kill is cheap, as processes are forked from one that has imported the program; a run survives several.
"""

from __future__ import annotations

import collections
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.campaign import small_disk
from benchmarks.campaign.findings import Campaign, Findings
from benchmarks.campaign.plan import kinds_of, pause_s
from benchmarks.campaign.sweeps_judge import Seen, judge_run, look_at_runs
from tests.support.forked import TRAINING, ForkedProcess
from tests.support.running_command import send

SHARES = {"SIGTERM": 0.1, "SIGHUP": 0.05, "SIGSTOP": 0.05, "disk": 0.1, "inodes": 0.1, "damage": 0.1}
"""Part of the kills; the rest are SIGKILL. The signals come twice, but SIGCONT after SIGSTOP; `disk` and `inodes` are
used up, and `damage` is a kill and a flipped bit in the newest of two checkpoints."""
WORDS = ("digits", "networks=resnet8", "cohort.size=1", "epochs=12", "--threads", "1")
PAUSES = 10
"""Mean number of pauses between kills in the time that the run takes alone."""
HANGS_AFTER_S = 600.0
DISK = {"megabytes": 24, "inodes": 400}


def run_on(kills: int, seed: int, stop: threading.Event) -> Campaign:
    """Run the campaign in a temporary folder, which is kept if there are findings."""
    folder = Path(tempfile.mkdtemp(prefix="mcl-campaign-"))
    found = run(folder, kills, seed, stop)
    if found.findings.is_clean:
        shutil.rmtree(folder)
    else:
        _print(f"the logs are in {folder}")
    return found


def run(folder: Path, kills: int, seed: int, stop: threading.Event | None = None) -> Campaign:
    """Train one run after the other, and kill until all kills are made.

    Args:
        folder: Folder of results and logs.
        kills: Number of kills.
        seed: Source of what is killed when.
        stop: Ends the kills before their number.
    """
    _print(f"runs: {kills} kills, seed {seed}")
    started, moments, findings = time.monotonic(), random.Random(seed), Findings()  # noqa: S311  # repeatable
    left, done, runs = kinds_of(kills, SHARES, "SIGKILL", moments), collections.Counter[str](), 0
    reference = _Run(folder / "reference", moments, stop or threading.Event())
    reference.survive([])
    mean_pause_s = (time.monotonic() - started) / PAUSES
    findings.add(reference.findings)
    (right,) = reference.seen[-1].figures.values()
    while left and not (stop and stop.is_set()):
        runs += 1
        with small_disk.small_disk(folder / str(runs), **DISK) as is_small:
            if not is_small:
                left = [kind for kind in left if kind not in small_disk.KINDS]
            one = _Run(folder / str(runs), moments, stop or threading.Event(), mean_pause_s)
            done += one.survive(left)
            findings.add(one.findings)
            findings.add(judge_run(one.seen, right))
        if runs % 10 == 0:
            _print(f"{done.total()} kills, {runs} runs: {dict(done)}")
    figures = {
        "seed": seed,
        "kills": done.total(),
        "kinds": dict(sorted(done.items())),
        "runs": runs,
        "minutes": round((time.monotonic() - started) / 60, 1),
        **findings.figures,
    }
    return Campaign(findings, figures)


class _Run:
    """One run, whose processes die until it ends."""

    def __init__(self, results: Path, moments: random.Random, stop: threading.Event, mean_pause_s: float = 0.0) -> None:
        self._results, self._moments, self._stop = results, moments, stop
        self._mean_pause_s = mean_pause_s
        self._log = results.with_suffix(".log")
        self.seen: list[Seen] = []
        self.findings = Findings()

    def survive(self, left: list[str]) -> collections.Counter[str]:
        """Take kills from `left` until the run has ended; return what was killed."""
        killed: collections.Counter[str] = collections.Counter()
        self._results.mkdir(exist_ok=True, parents=True)
        is_over = False
        while not is_over:
            with self._log.open("ab") as log:
                process = ForkedProcess(self._command(), TRAINING, stdout=log, stderr=log, start_new_session=True)
                is_over = self._attend(process, left, killed)
            small_disk.free(self._results)
            self.seen.append(look_at_runs(self._results))
        said = self._log.read_text(errors="replace")
        self.findings.wrong += [f"a traceback in {self._log}"] * said.count("Traceback")
        return killed

    def _attend(self, process: ForkedProcess, left: list[str], killed: collections.Counter[str]) -> bool:
        """Kill a process once; return whether it ended the run, or hung."""
        kind = ""
        while left and not self._stop.is_set() and kind in ("", "SIGSTOP"):
            with suppress(subprocess.TimeoutExpired):
                process.wait(pause_s(self._mean_pause_s, self._moments))
            if process.poll() is not None:
                break
            kind = left.pop()
            killed[kind] += 1
            self._kill(process.pid, kind)
        try:
            code = process.wait(HANGS_AFTER_S)
        except subprocess.TimeoutExpired:
            self.findings.stuck.append(f"after {kind}, {self._results} did not end")
            process.kill()
            process.wait()
            return True
        if kind == "damage":
            self._damage()
        allowed = {"": (0,), "SIGTERM": (0, 143), "SIGHUP": (0, 129), "SIGSTOP": (0,)}.get(kind, (0, -signal.SIGKILL))
        if kind in small_disk.KINDS:
            allowed = (0, 2)
        if code not in allowed:
            self.findings.wrong.append(f"after {kind}, a process of {self._results} ended with {code}")
            return True
        return code == 0

    def _kill(self, pid: int, kind: str) -> None:
        if kind in small_disk.KINDS:
            small_disk.fill(self._results, kind)
        elif kind in ("SIGKILL", "damage"):
            send([pid], signal.SIGKILL)
        else:
            send([pid], signal.Signals[kind])
            time.sleep(self._moments.uniform(0, 0.5))
            send([pid], signal.SIGCONT if kind == "SIGSTOP" else signal.Signals[kind])

    def _damage(self) -> None:
        found = sorted(self._results.glob("runs/*/checkpoints/*.pt"))
        if len(found) > 1:
            content = bytearray(found[-1].read_bytes())
            content[self._moments.randrange(len(content))] ^= 1 << self._moments.randrange(8)
            found[-1].write_bytes(content)

    def _command(self) -> list[str]:
        resume = ["--resume"] if list(self._results.glob("runs/*/run.parquet")) else []
        return [sys.executable, "-m", "mcl_ray.train", *WORDS, *resume, "--results", str(self._results)]


def _print(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
