"""Benchmark of what grows with the number of trials of a search: the driver's part of a trial, listing, report, resume.

    python -m benchmarks.growth [--trials 10 100 1000 10000] [--sampler nsga2] [--parts driver listing report resume]
    python -m benchmarks.growth --fill --trials 1000 100000

Prints one JSON line for each number of trials, and at the end one with the exponents: b of time = a · trials^b, between
the last two numbers of trials. Nothing is trained: records are generated, three epochs of each trial, with the columns
that training writes; with `--fill` at random points, without proposing trials. CPU seconds of this process:

    driver_ms        our part of a trial: what is called from its proposal to its end, over the last tenth of the
                     trials, at least 10, when the search has had all trials before
    proposal_ms      Optuna's part of the same trials: the proposal, and telling the study the result
    first_listing_s  the tables of a sweep, all of whose records are read one by one
    listing_s        the same tables again, from the cache as far as there is one
    runs_list_s      `mcl runs list`, but for printing
    report_s         `mcl report`: the overview of the terminal, figures and page
    resume_s         what `mcl sweep --resume` does before its first trial starts
    peak_mib         memory of this process at its highest, after all of these
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from trainables.cluster.connect import connect  # isort: skip  # noqa: F401 -- sets Ray's environment
import numpy as np

from benchmarks.record import print_line
from mcl_ray.analysis.sweep_ranking import rank_sweep
from mcl_ray.callbacks import SweepCallback, TrialEnd, TrialInfo, TrialResult, notify
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import replace
from mcl_ray.reports.build import write_report
from mcl_ray.reports.overview import overview
from mcl_ray.reports.runs import runs_table
from mcl_ray.results import record_cache, schema
from mcl_ray.results.provenance import Provenance
from mcl_ray.results.store import SweepWriter, read_epochs, read_runs
from searches.importance import importances
from searches.record_caching import RecordCaching
from searches.resumption import plan_resumption
from searches.spec import search_registry
from searches.spec.space import FloatRange, IntRange
from searches.spec.sweep import SweepSpec
from searches.sweep_recorder import SweepRecorder
from searches.trial_history import read_trials
from searches.tune.checkpoint_retention import CheckpointRetention
from searches.tune.optuna_searcher import OptunaSearcher
from searches.tune.scheduler import to_scheduler
from searches.tune.trial_recorder import TrialRecorder
from searches.tune.tuner import SweepTuner
from trainables.trial_job import EPOCH, SCORE, info_of

EPOCHS = 3
KEPT = 4
"""Configurations that keep their checkpoints."""
PARTS = ("driver", "listing", "report", "resume")


def search(trials: int, sampler: str) -> SweepSpec:
    """Return the search: the fields of `digits`, three epochs, all of which every trial trains."""
    changes: dict[str, Any] = {
        "trials": trials + 1,  # so that one remains when the sweep is resumed
        "run.schedule.epochs": EPOCHS,
        "scheduler.kind": "none",
        "sampler.kind": sampler,
        "keep_checkpoints": KEPT,
        "confirm.configurations": 0,
        "baseline": {},
    }
    return replace(search_registry.digits(), changes)


class Generated:
    """A search on the disk whose trials are generated, without being trained."""

    def __init__(self, root: Path, trials: int, sampler: str) -> None:
        self.spec = search(trials, sampler)
        self._writer = SweepWriter.create(
            root, "growth", self.spec, objective=self.spec.objective, mode="max", trials_planned=self.spec.trials
        )
        self.folder, self._trials, self._chance = self._writer.folder, trials, np.random.default_rng(0)
        self._began, self._machine = datetime.now(UTC), Provenance()

    def run(self, *, records: bool = True) -> dict[str, float]:
        """Propose all trials, and return the milliseconds of a trial over the last ones.

        Without `records`, no run is written, which takes most of the time.
        """
        tuner = SweepTuner(sweep=self.spec, execution=None, environment=Environment(), folder=self.folder)  # type: ignore[arg-type]
        searcher = OptunaSearcher(self.spec, self.folder, [], [])
        retention = CheckpointRetention(tuner._job, KEPT, [], self.spec.own_point)
        callbacks: list[SweepCallback] = [
            TrialRecorder(tuner._job),
            searcher,
            retention,
            SweepRecorder(self._writer),
            RecordCaching(self.folder, self.spec.repeats),
        ]
        proposals, measured = searcher.searcher(), max(10, self._trials // 10)
        ours, optunas = [0.0], [0.0]
        for number in range(self._trials):
            if number == max(0, self._trials - measured):
                ours, optunas = [], []
            with _counted(optunas):
                config = proposals.suggest(f"{number}")
            assert config is not None, "a search proposes as many trials as it is asked for"
            trial = info_of(config)
            with _counted(ours):
                notify(callbacks, "on_trial_start", trial)
            scores = self._scores(trial.point)
            if records:
                self._record(trial, scores)
            for epoch, score in enumerate(scores, start=1):
                report = {EPOCH: epoch, SCORE: score, "training_iteration": epoch}
                with _counted(optunas):
                    proposals.on_trial_result(f"{number}", report)
                with _counted(ours):
                    result = TrialResult(epoch=epoch, score=score, mean=score, std=0.0, n=1)
                    notify(callbacks, "on_trial_result", trial, result)
            with _counted(optunas):
                proposals.on_trial_complete(f"{number}", report)
            with _counted(ours):
                notify(callbacks, "on_trial_end", trial, TrialEnd(state="finished", result=result))
                notify(callbacks, "on_heartbeat")
        self._writer.finish("interrupted")
        count = min(measured, self._trials)
        return {"driver_ms": 1000 * sum(ours) / count, "proposal_ms": 1000 * sum(optunas) / count}

    def fill(self) -> None:
        """Record all trials at random points, without proposing them, which takes most of the time of very many."""
        for number in range(self._trials):
            point = self._point() if number else self.spec.own_point or {}
            trial = TrialInfo(trial_id=f"{number:04d}", point=point)
            self._record(trial, self._scores(point))
        self._writer.finish("interrupted")

    def listing(self) -> None:
        """Read the tables of runs and epochs."""
        read_runs(self.folder)
        read_epochs(self.folder)

    def runs_list(self) -> None:
        """Make the table of runs of a terminal."""
        runs_table(self.folder)

    def report(self) -> None:
        """Do what the command `report` does, but for printing."""
        ranked = rank_sweep(self.folder)
        overview(self.folder, ranked)
        write_report(self.folder, importances, ranked)

    def resume(self) -> None:
        """Do what resuming does before the first trial starts, without Ray and without the study's database."""
        plan_resumption(self.folder)
        known = read_trials(self.folder, self.spec)
        OptunaSearcher(self.spec, self.folder, known, []).searcher().suggest("next")
        to_scheduler(self.spec.strategy.scheduler, EPOCHS, known)

    def _point(self) -> dict[str, Any]:
        """Return a random point of the space, all of whose dimensions are ranges without steps or conditions."""
        point: dict[str, Any] = {}
        for path, dimension in self.spec.space.items():
            if isinstance(dimension, IntRange):
                point[path] = int(self._chance.integers(dimension.low, dimension.high, endpoint=True))
            else:
                assert isinstance(dimension, FloatRange), f"the search `digits` has ranges, but got {dimension}"
                point[path] = float(self._chance.uniform(dimension.low, dimension.high))
        return point

    def _scores(self, point: Mapping[str, Any]) -> list[float]:
        best = 90 - 5 * abs(point["losses.alpha"] - 0.3) + self._chance.normal(0, 0.5)
        return [best - 20 / epoch for epoch in range(1, EPOCHS + 1)]

    def _record(self, trial: TrialInfo, scores: Sequence[float]) -> None:
        """Write the files of a run that trained to its end, without waiting for the disk, as `RunWriter` does."""
        run = self.spec.trial_run(trial.point)
        folder = self.folder / "runs" / f"{self.folder.name}-{trial.trial_id}-r0"
        folder.mkdir(parents=True)
        row = {
            "run_id": folder.name,
            "recipe": run.recipe,
            "digest": run.digest,
            "spec": schema.to_json(run.model_dump(mode="json")),
            "searched": schema.to_json(trial.point),
            "sweep_id": self.folder.name,
            "trial_id": trial.trial_id,
            "seed": run.seed,
            "attempt": 1,
            "state": "finished",
            "epochs_done": EPOCHS,
            "epochs_planned": EPOCHS,
            "started_at": self._began + timedelta(seconds=int(trial.trial_id)),
            "wall_time_s": 1.0,
            "host": self._machine.host,
            "hardware": self._machine.hardware,
            "code_version": self._machine.code_version,
            "torch_version": self._machine.torch_version,
            "parameters": 150_000 * run.cohort.size,
            "multiply_adds": 1_000_000 * run.cohort.size,
        }
        epochs = [figure for number, score in enumerate(scores, 1) for figure in _figures(folder.name, number, score)]
        (folder / "epochs-a0001.parquet").write_bytes(schema.to_parquet(schema.table("epochs", epochs)))
        (folder / "run.parquet").write_bytes(schema.to_parquet(schema.table("runs", [row])))


def _figures(run_id: str, epoch: int, score: float) -> Iterator[dict[str, Any]]:
    """Yield the rows of an epoch: nine of training, and top-1 and top-5 of five members."""
    keys = {"run_id": run_id, "attempt": 1, "epoch": epoch}
    for name in ("cross_entropy", "vcl", "icl", "soft_vcl", "soft_icl", "loss", "lr", "epoch_time_s", "images_per_s"):
        yield keys | {"member": "cohort", "split": "train", "metric": name, "value": 1.0 / epoch}
    for member in ("peer0", "peer1", "mean", "best", "ensemble"):
        for metric, value in (("top1", score), ("top5", min(100.0, score + 9))):
            yield keys | {"member": member, "split": "validation", "metric": metric, "value": value}


class _counted:  # noqa: N801 -- a context manager, named as a function
    """Appends the CPU seconds of its context to a list."""

    def __init__(self, seconds: list[float]) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._started = time.process_time()

    def __exit__(self, *_: object) -> None:
        self._seconds.append(time.process_time() - self._started)


def measure(root: Path, trials: int, sampler: str, parts: Sequence[str], *, fill: bool = False) -> dict[str, float]:
    """Return the figures of a search of so many trials."""
    generated = Generated(root, trials, sampler)
    if fill:
        generated.fill()
        figures: dict[str, float] = {}
    else:
        figures = generated.run(records=set(parts) != {"driver"})
        shutil.rmtree(generated.folder / record_cache.FOLDER, ignore_errors=True)
    if "driver" not in parts:
        figures = {}
    timed = [
        ("first_listing", "listing", generated.listing),
        ("listing", "listing", generated.listing),
        ("runs_list", "listing", generated.runs_list),
        ("report", "report", generated.report),
        ("resume", "resume", generated.resume),
    ]
    for name, part, act in timed:
        if part in parts:
            seconds: list[float] = []
            with _counted(seconds):
                act()
            figures[f"{name}_s"] = seconds[0]
    return figures | {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def exponents(smaller: Mapping[str, float], larger: Mapping[str, float], factor: float) -> dict[str, float]:
    """Return the exponent of each figure: log of its ratio over log of the ratio of the numbers of trials."""
    return {name: round(math.log(larger[name] / smaller[name]) / math.log(factor), 2) for name in larger}


def main() -> None:
    """Measure, and print the lines."""
    parser = argparse.ArgumentParser(description="Benchmark of what grows with the number of trials.")
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--sampler", default="nsga2")
    parser.add_argument("--fill", action="store_true")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    given = parser.parse_args()
    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        measure(Path(folder), 10, given.sampler, given.parts)  # imports, and what is computed once in a process
        for trials in given.trials:
            found.append(measure(Path(folder), trials, given.sampler, given.parts, fill=given.fill))
            rounded = {name: round(value, 3) for name, value in found[-1].items()}
            print_line("growth", {"trials": trials, "sampler": given.sampler} | rounded, n=1)
    if len(found) > 1:
        factor = given.trials[-1] / given.trials[-2]
        print(json.dumps({"benchmark": "growth", "exponents": exponents(found[-2], found[-1], factor)}))


if __name__ == "__main__":
    main()
