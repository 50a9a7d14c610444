"""Campaign on sweeps: kills drivers, trials, raylets and the GCS at random moments, and damages files between them.

Every driver has a Ray of its own; after its death, the next one resumes the sweep.
"""

from __future__ import annotations

import collections
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

from benchmarks.campaign import small_disk
from benchmarks.campaign.findings import Campaign, Findings
from benchmarks.campaign.plan import kinds_of, pause_s
from benchmarks.campaign.sweeps_judge import Seen, judge, look
from tests.support.running_command import ALONE, descendants, send

SHARES = {"trial": 0.2, "raylet": 0.1, "gcs": 0.1, "terminate": 0.15, "damage": 0.1, "disk": 0.05, "inodes": 0.05}
"""Part of the kills; the rest are of drivers. `terminate` is SIGTERM, twice; `damage` a kill and a flipped bit; `disk`
and `inodes` are used up."""
DISK = {"megabytes": 200, "inodes": 4000}
TITLES = {"trial": ("ray::ImplicitFunc", "ray::RayTrainWorker"), "raylet": ("raylet/raylet",), "gcs": ("gcs_server",)}
SWEEPS: dict[str, tuple[int, int, tuple[str, ...]]] = {
    "plain": (4, 1, ("scheduler.kind=none",)),
    "asha": (6, 1, ("grace_epochs=1", "reduction_factor=2")),
    "repeats": (3, 2, ("repeats=2", "scheduler.kind=none")),
    "costs": (4, 1, ("costs=[parameters]", "sampler.kind=nsga2", "sampler.population=2", "scheduler.kind=none")),
    "workers": (2, 1, ("scheduler.kind=none", "--workers", "2")),
}
"""Kind of sweep → trials, seeds of each, and its words."""
FIELDS = ("epochs=8", "space.cohort.size=null", "cohort.size=1", *ALONE)
MEAN_PAUSE_S = 12.0
"""About the start of a driver; a pause of one is as likely to end before it as to last until trials have ended."""
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
    while sweeps == 0 or (left and not (stop and stop.is_set())):
        sweeps += 1
        with small_disk.small_disk(folder / str(sweeps), **DISK) as is_small:
            if not is_small:
                left = [kill for kill in left if kill not in small_disk.KINDS]
            one = _Sweep(kind, folder / str(sweeps), moments, stop or threading.Event())
            done += one.survive(left)
            findings.add(one.findings)
        _print(f"{done.total()} kills, {sweeps} sweeps: {dict(done)}")
    figures = {
        "sweep": kind,
        "seed": seed,
        "kills": done.total(),
        "kinds": dict(sorted(done.items())),
        "sweeps": sweeps,
        "minutes": round((time.monotonic() - started) / 60, 1),
        **findings.figures,
    }
    return Campaign(findings, figures)


class _Sweep:
    """One sweep, whose drivers die until it ends."""

    def __init__(self, kind: str, results: Path, moments: random.Random, stop: threading.Event) -> None:
        self.trials, self._repeats, self._words = SWEEPS[kind]
        self._results, self._moments, self._stop = results, moments, stop
        self._seen: list[Seen] = []
        self.findings = Findings()

    def survive(self, left: list[str]) -> collections.Counter[str]:
        """Take kills from `left` until the sweep has ended or none is left, then judge; return what was killed."""
        killed: collections.Counter[str] = collections.Counter()
        ended = False
        while not ended:
            with self._log().open("ab") as log:
                driver = subprocess.Popen(  # noqa: S603
                    self._command(), stdout=log, stderr=log, start_new_session=True, env=os.environ | {"COLUMNS": "200"}
                )
            ended = self._attend(driver, left, killed)
            if folder := self._folder():
                self._seen.append(look(folder))
        said = self._log().read_text(errors="replace")
        self.findings.wrong += [f"a traceback in {self._log()}"] * said.count("Traceback")
        self.findings.add(judge(self._seen, trials=self.trials, repeats=self._repeats))
        return killed

    def _attend(self, driver: subprocess.Popen[bytes], left: list[str], killed: collections.Counter[str]) -> bool:
        """Kill while a driver runs; return whether it ended the sweep, or hung."""
        began = time.monotonic()
        while left and not self._stop.is_set():
            with suppress(subprocess.TimeoutExpired):
                driver.wait(pause_s(MEAN_PAUSE_S, self._moments))
            if driver.poll() is not None:
                break
            below = descendants(driver.pid, "")
            if not self._kill(driver, left[-1]):
                continue
            kind = left.pop()
            killed[kind] += 1
            if kind != "trial":
                return self._after(driver, kind, below)
        return self._end(driver, HANGS_AFTER_S - (time.monotonic() - began))

    def _kill(self, driver: subprocess.Popen[bytes], kind: str) -> bool:
        """Kill a process of a kind; return whether there was one."""
        if kind in small_disk.KINDS:
            small_disk.fill(self._results, kind)
            return True
        if kind not in TITLES:
            send([driver.pid], signal.SIGTERM if kind == "terminate" else signal.SIGKILL)
            return True
        found = [pid for title in TITLES[kind] for pid in descendants(driver.pid, title) if pid != driver.pid]
        send(self._moments.sample(found, min(1, len(found))), signal.SIGKILL)
        return bool(found)

    def _after(self, driver: subprocess.Popen[bytes], kind: str, below: list[int]) -> bool:
        """Wait for the end of a driver and of all its processes; return whether it ended the sweep, or hung."""
        if kind == "terminate":
            time.sleep(self._moments.uniform(0, 2))
            send([driver.pid], signal.SIGTERM)
        ended = self._end(driver, HANGS_AFTER_S, kind)
        small_disk.free(self._results)
        deadline = time.monotonic() + ORPHANS_END_WITHIN_S
        while (orphans := [pid for pid in below if descendants(pid, "")]) and time.monotonic() < deadline:
            time.sleep(0.2)
        if orphans:
            self.findings.stuck.append(f"orphans of a driver after {kind}: {orphans}")
            send(orphans, signal.SIGKILL)
        if kind == "damage":
            self._damage()
        return ended

    def _end(self, driver: subprocess.Popen[bytes], within_s: float, kind: str = "") -> bool:
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

    def _log(self) -> Path:
        return self._results.with_suffix(".log")


def _print(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
