"""Benchmark of the overhead of a sweep: `SweepTuner` and bare Ray Tune run the same trials, in turns.

    python -m benchmarks.sweep [--trials 12] [--repeats 3]

Prints one JSON line. Both train the digits recipe for one epoch per trial, one trial at a time, in reused actors on a
Ray instance of their own, and write the same records; bare Tune samples at random and does nothing else. Two figures:
seconds from the start of Tune to the first report, and the median over the later trials of the seconds between two
reports minus those of the epoch.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from trainables.cluster.connect import connect  # isort: skip -- sets Ray's environment
from ray import tune

from benchmarks.record import print_line, ratios
from mcl_ray.callbacks import SweepCallback, TrialEnd, TrialInfo
from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.config.overrides import replace, validate
from mcl_ray.config.spec import DataSpec
from mcl_ray.data.dataset import Dataset
from mcl_ray.data.source import load_dataset
from mcl_ray.results.store import RunWriter, read_epochs, read_runs
from mcl_ray.training.recorded_run import iter_recorded_run, machine_provenance
from searches.spec.sweep import SweepSpec
from searches.tune.connection import connected
from searches.tune.tuner import SweepTuner

SEARCHED = "losses.alpha"
SECONDS = "epoch_time_s"
EXECUTION = ExecutionOptions(device="cpu", cpus_per_worker=os.cpu_count() or 1)


class Cost(NamedTuple):
    """Overhead of one sweep, in seconds."""

    to_first_report: float
    per_trial: float


class Clock(SweepCallback):
    """Records when each trial completed, to subtract the recorded times of their epochs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.started, self.reported = folder, time.perf_counter(), list[float]()

    def on_trial_end(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Record the time of a completed trial, each of which has one epoch."""
        if end.state == "finished":
            self.record()

    def record(self) -> None:
        """Record that a trial completed now."""
        self.reported.append(time.perf_counter())

    def cost(self) -> Cost:
        """Return the time that was not spent on training."""
        order = read_runs(self.folder)["run_id"].to_pylist()
        rows = read_epochs(self.folder).to_pylist()
        seconds = {row["run_id"]: row["value"] for row in rows if row["metric"] == SECONDS}
        gaps = [later - earlier for earlier, later in zip(self.reported, self.reported[1:], strict=False)]
        beside = [gap - seconds[run_id] for gap, run_id in zip(gaps, order[1:], strict=True)]
        return Cost(self.reported[0] - self.started, statistics.median(beside))


class BareCallback(tune.Callback):
    """Records the completed trials of bare Ray Tune, which pickles its callbacks: the clock is kept in the class."""

    clock: ClassVar[Clock]

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Record the time of a completed trial."""
        self.clock.record()


def ours(trials: int, folder: Path) -> Cost:
    """Run a sweep like the command does after its checks, and return its overhead."""
    run = replace(recipes.digits(), {"data.validation_fraction": 0.2, "schedule.epochs": 1, "cohort.size": 1})
    space = {SEARCHED: {"kind": "float", "low": 0.0, "high": 1.0}}
    tree = {"run": run, "space": space, "trials": trials, "scheduler": {"kind": "none"}, "sampler": {"kind": "random"}}
    clock = Clock(folder)
    sweep, environment = validate(SweepSpec, tree), _environment(folder)
    tuner = SweepTuner(sweep=sweep, execution=EXECUTION, environment=environment, folder=folder, callbacks=[clock])
    with connected(sweep, EXECUTION, environment, []):
        tuner.run([], [], None)
    return clock.cost()


def bare(trials: int, folder: Path) -> Cost:
    """Run the trials on bare Ray Tune, and return its overhead."""
    clock = Clock(folder)
    BareCallback.clock = clock
    with connect(EXECUTION):
        trainable = tune.with_resources(tune.with_parameters(_train, folder=folder), {"CPU": EXECUTION.cpus_per_worker})
        tune.Tuner(
            trainable,
            param_space={SEARCHED: tune.uniform(0.0, 1.0)},
            tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=True),
            run_config=tune.RunConfig(name="tune", storage_path=str(folder), callbacks=[BareCallback()], verbose=0),
        ).fit()
    return clock.cost()


def _train(config: dict[str, Any], folder: Path) -> None:
    spec = replace(recipes.digits(), {"data.validation_fraction": 0.2, "schedule.epochs": 1, "cohort.size": 1} | config)
    environment = _environment(folder)
    writer = RunWriter.create(folder, spec, provenance=machine_provenance(environment))
    for epoch in iter_recorded_run(spec, _dataset(spec.data, environment), environment, writer):
        tune.report({"epoch": epoch.epoch})


@lru_cache(maxsize=1)
def _dataset(spec: DataSpec, environment: Environment) -> Dataset:
    return load_dataset(spec, environment)


def _environment(folder: Path) -> Environment:
    return Environment(results=folder, device=EXECUTION.device, threads=1)


def main() -> None:
    """Measure both in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    costs: dict[str, list[Cost]] = {"ours": [], "bare": []}
    for _ in range(options.repeats):
        for name, measure in (("bare", bare), ("ours", ours)):
            with tempfile.TemporaryDirectory() as folder:
                costs[name].append(measure(options.trials, Path(folder)))
    figures = {name: _figure(name, costs) for name in Cost._fields}
    print_line("sweep", {"trials": options.trials} | figures, n=options.repeats)


def _figure(name: str, costs: dict[str, list[Cost]]) -> dict[str, object]:
    seconds = {way: [getattr(cost, name) for cost in measured] for way, measured in costs.items()}
    return {
        "ratio": ratios(seconds["ours"], seconds["bare"]),
        "seconds_median": {way: round(statistics.median(values), 4) for way, values in seconds.items()},
    }


if __name__ == "__main__":
    import_module("benchmarks.sweep").main()  # workers import the function of the trials by this name
