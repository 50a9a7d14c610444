"""Campaign on sweeps: kills drivers, trials, raylets and the GCS at random moments, and damages files between them.

Every driver has a Ray of its own; after its death, the next one resumes the sweep.
"""

from __future__ import annotations

import collections
import contextlib
import os
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
from typing import Any

from benchmarks.campaign import small_disk
from benchmarks.campaign.findings import Campaign, Findings
from benchmarks.campaign.plan import kinds_of, pause_s
from benchmarks.campaign.sweeps_drivers import Drivers, still_running, titled
from benchmarks.campaign.sweeps_judge import Seen, judge, look
from tests.support.running_command import ALONE, WAITING, descendants, send

SHARES = {"trial": 0.35, "raylet": 0.06, "gcs": 0.06, "terminate": 0.12, "damage": 0.08, "disk": 0.04, "inodes": 0.04}
"""Part of the kills; the rest are of drivers. `terminate` is SIGTERM, twice; `damage` a kill and a flipped bit; `disk`
and `inodes` are used up."""
DISK = {"megabytes": 200, "inodes": 4000}
TITLES = {"trial": ("ray::ImplicitFunc", "ray::RayTrainWorker"), "raylet": ("raylet/raylet",), "gcs": ("gcs_server",)}
SWEEPS: dict[str, tuple[int, int, tuple[str, ...]]] = {
    "plain": (4, 1, ("scheduler.kind=none",)),
    "asha": (8, 1, ("grace_epochs=30", "reduction_factor=2")),
    "repeats": (3, 2, ("repeats=2", "scheduler.kind=none")),
    "costs": (4, 1, ("costs=[parameters]", "sampler.kind=nsga2", "sampler.population=2", "scheduler.kind=none")),
    "workers": (2, 1, ("scheduler.kind=none", "--workers", "2")),
}
"""Kind of sweep → trials, seeds of each, and its words."""
FIELDS = ("epochs=120", "space.cohort.size=null", "cohort.size=1", *WAITING, *ALONE)
"""So long that a sweep survives 10 to 20 kills, most of it waits, so that several campaigns share few cores."""
MEAN_PAUSE = 0.7
"""Part of the time until a driver has an epoch on record: a quarter of the drivers live longer than that."""
MOST_TRIALS_KILLED = 3
"""By one driver, which restarts a trial so often before it counts as failed."""
POLL_S = 0.1
HANGS_AFTER_S = 900.0
ORPHANS_END_WITHIN_S = 50.0
"""Less than the minute after which Ray's own processes end by themselves."""
FILES = ("sampler.json", "study.db", "runs/*/stop.json", "runs/*/checkpoints/*.pt")
"""Files that are damaged; of checkpoints, the newest of a run that has two."""


def run_on(kind: str, kills: int, seed: int, stop: threading.Event) -> Campaign:
    """Run the campaign on sweeps of one kind, in a temporary folder that is kept if there are findings."""
    folder = Path(tempfile.mkdtemp(prefix="mcl-campaign-"))
    found = run(kind, folder, kills, seed, stop)
    if found.findings.is_clean:
        shutil.rmtree(folder)
    else:
        _print(f"the results and logs are in {folder}")
    return found


def run(kind: str, folder: Path, kills: int, seed: int, stop: threading.Event | None = None) -> Campaign:
    """Start sweeps of a kind, one after the other, and kill until all kills are made.

    Args:
        kind: One of `SWEEPS`.
        folder: Folder of results and logs.
        kills: Number of kills.
        seed: Source of what is killed when.
        stop: Ends the kills before their number.
    """
    _print(f"{kind}: {kills} kills, seed {seed}")
    started, moments, findings = time.monotonic(), random.Random(seed), Findings()  # noqa: S311  # repeatable
    left, done, sweeps = kinds_of(kills, SHARES, "driver", moments), collections.Counter[str](), 0
    drivers = Drivers(moments)
    while sweeps == 0 or (left and not (stop and stop.is_set())):
        sweeps += 1
        with small_disk.small_disk(folder / str(sweeps), **DISK) as is_small:
            if not is_small:
                left = [kill for kill in left if kill not in small_disk.KINDS]
            one = _Sweep(kind, folder / str(sweeps), moments, drivers, stop or threading.Event())
            done += one.survive(left)
            findings.add(one.findings)
        took_s = time.monotonic() - started
        _print(f"{done.total()} kills, {sweeps} sweeps, {took_s / max(1, done.total()):.1f} s a kill: {dict(done)}")
    figures = {
        "sweep": kind,
        "seed": seed,
        "kills": done.total(),
        "kinds": dict(sorted(done.items())),
        "sweeps": sweeps,
        "drivers": drivers.started,
        "minutes": round((time.monotonic() - started) / 60, 1),
        **findings.figures,
    }
    return Campaign(findings, figures)


class _Sweep:
    """One sweep, whose drivers die until it ends."""

    def __init__(
        self, kind: str, results: Path, moments: random.Random, drivers: Drivers, stop: threading.Event
    ) -> None:
        self.trials, self._repeats, self._words = SWEEPS[kind]
        self._results, self._moments, self._drivers, self._stop = results, moments, drivers, stop
        self._seen: list[Seen] = []
        self.findings = Findings()

    def survive(self, left: list[str]) -> collections.Counter[str]:
        """Take kills from `left` until the sweep has ended or none is left, then judge; return what was killed."""
        killed: collections.Counter[str] = collections.Counter()
        ended = False
        while not ended:
            driver = self._drivers.start(self._command(), self._log())
            if self._drivers.mean_pause_s is None:
                self._drivers.mean_pause_s = MEAN_PAUSE * self._time_to_first_epoch(driver)
                _print(f"mean pause before a kill: {self._drivers.mean_pause_s:.1f} s")
            ended = self._attend(driver, left, killed)
            self._note("the sweep has ended" if ended else "nothing of the driver is left")
            if folder := self._folder():
                self._seen.append(look(folder))
        said = self._log().read_text(errors="replace")
        self.findings.wrong += [f"a traceback in {self._log()}"] * said.count("Traceback")
        self.findings.add(judge(self._seen, trials=self.trials, repeats=self._repeats))
        return killed

    def _attend(self, driver: subprocess.Popen[Any], left: list[str], killed: collections.Counter[str]) -> bool:
        """Kill while a driver runs; return whether it ended the sweep, or hung."""
        deadline, trials_killed = time.monotonic() + HANGS_AFTER_S, 0
        while left and not self._stop.is_set() and time.monotonic() < deadline:
            kind = next((kind for kind in left if kind != "trial" or trials_killed < MOST_TRIALS_KILLED), None)
            if kind is None or not self._wait(driver, kind, deadline):
                break
            running = descendants(driver.pid, "")
            if not self._kill(driver, kind, running):
                continue
            left.remove(kind)
            self._note(f"kill: {kind}")
            killed[kind] += 1
            trials_killed += kind == "trial"
            if kind != "trial":
                return self._after(driver, kind, running)
        return self._end(driver, deadline - time.monotonic())

    def _wait(self, driver: subprocess.Popen[Any], kind: str, deadline: float) -> bool:
        """Wait until there is a process of a kind, and then for a random time; return whether the driver still runs."""
        while kind in TITLES and not titled(descendants(driver.pid, ""), TITLES[kind]):
            if driver.poll() is not None or time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
        mean_s = self._drivers.mean_pause_s or 0.0
        with suppress(subprocess.TimeoutExpired):
            driver.wait(pause_s(mean_s / 2 if kind == "trial" else mean_s, self._moments))
        return driver.poll() is None

    def _kill(self, driver: subprocess.Popen[Any], kind: str, running: list[int]) -> bool:
        """Kill a process of a kind; return whether there was one."""
        if kind in small_disk.KINDS:
            small_disk.fill(self._results, kind)
            return True
        if kind not in TITLES:
            send([driver.pid], signal.SIGTERM if kind == "terminate" else signal.SIGKILL)
            return True
        found = titled(running, TITLES[kind])
        send(self._moments.sample(found, min(1, len(found))), signal.SIGKILL)
        return bool(found)

    def _after(self, driver: subprocess.Popen[Any], kind: str, running: list[int]) -> bool:
        """Wait for the end of a driver and of all its processes; return whether it ended the sweep, or hung."""
        with contextlib.ExitStack() as opened:
            processes = {}
            for pid in running:
                with suppress(ProcessLookupError):
                    processes[os.pidfd_open(pid)] = pid
            for process in processes:
                opened.callback(os.close, process)
            if kind == "terminate":
                time.sleep(self._moments.uniform(0, 2))
                send([driver.pid], signal.SIGTERM)
            ended = self._end(driver, HANGS_AFTER_S, kind)
            small_disk.free(self._results)
            self._note(f"the driver has ended with {driver.returncode}")
            if orphans := [processes[one] for one in still_running(processes, ORPHANS_END_WITHIN_S)]:
                self.findings.stuck.append(f"orphans of a driver after {kind}: {orphans}")
                send(orphans, signal.SIGKILL)
        if kind == "damage":
            self._damage()
        return ended

    def _time_to_first_epoch(self, driver: subprocess.Popen[Any]) -> float:
        """Return how long a new driver takes until a trial has an epoch on record."""
        began = time.monotonic()
        while driver.poll() is None and not list(self._results.glob("sweeps/*/runs/*/epochs-*.parquet")):
            time.sleep(POLL_S)
        return time.monotonic() - began

    def _end(self, driver: subprocess.Popen[Any], within_s: float, kind: str = "") -> bool:
        try:
            code = driver.wait(max(1.0, within_s))
        except subprocess.TimeoutExpired:
            self.findings.stuck.append(f"the driver of {self._results} did not end")
            send(descendants(driver.pid, ""), signal.SIGKILL)
            driver.wait()
            return True
        if code not in ((0, 2) if kind in small_disk.KINDS else (0, 1, 128 + signal.SIGTERM, -signal.SIGKILL)):
            self.findings.wrong.append(f"after {kind}, a driver of {self._results} ended with {code}")
            return True
        return code == 0

    def _damage(self) -> None:
        """Flip a bit of one file that a resumed sweep reads and can do without."""
        folder = self._folder()
        found = sorted(folder.glob(self._moments.choice(FILES))) if folder else []
        runs = collections.Counter(file.parent for file in found)
        found = [file for file in found if file.suffix != ".pt" or runs[file.parent] > 1]
        if found:
            file = found[-1] if found[-1].suffix == ".pt" else self._moments.choice(found)
            content = bytearray(file.read_bytes())
            content[self._moments.randrange(len(content))] ^= 1 << self._moments.randrange(8)
            file.write_bytes(content)

    def _command(self) -> list[str]:
        words = ("--resume", "latest") if self._folder() else ("digits", f"trials={self.trials}", *FIELDS)
        given = [word for word in self._words if not self._folder() or word.startswith("--") or word.isdecimal()]
        options = ["--no-dashboard", "--results", str(self._results)]
        return [sys.executable, "-m", "mcl_ray.sweep", *words, *given, *options]

    def _folder(self) -> Path | None:
        return next((file.parent for file in self._results.glob("sweeps/*/sweep.parquet")), None)

    def _note(self, event: str) -> None:
        """Write an event between the lines of the drivers."""
        with self._log().open("a") as log:
            print(f"{time.strftime('%H:%M:%S')} {event}", file=log)

    def _log(self) -> Path:
        return self._results.with_suffix(".log")


def _print(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
