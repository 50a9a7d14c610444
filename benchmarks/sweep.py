"""What a sweep costs beside its training: our engine and bare Ray Tune run the same trials, in turns, in one run.

    python -m benchmarks.sweep [--trials 12] [--repeats 3]

Prints one JSON line. Both train the digits recipe for one epoch a trial, one trial at a time, in reused actors on a Ray
of their own, and write the same records; bare Tune draws at random and does nothing else. Two figures: seconds from
asking Ray for trials to the first report, and the median, over the later trials, of the seconds from one report to the
next less the epoch's own.
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

from ray import tune

import trainables  # noqa: F401 -- sets the environment variables that Ray reads when it is imported
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
from searches.tune.tuner import SweepTuner, connected
from trainables.cluster.connect import connect

SEARCHED = "losses.alpha"
SECONDS = "epoch_time_s"
PLACE = ExecutionOptions(device="cpu", cpus_per_worker=os.cpu_count() or 1)


class Cost(NamedTuple):
    """Cost of one sweep, in seconds."""

    to_first_report: float
    per_trial: float


class Clock(SweepCallback):
    """Notes when each trial ended, and how long its epoch took."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.started, self.reported = folder, time.perf_counter(), list[float]()

    def on_trial_end(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Note the end of a trial, which has one epoch."""
        self.note()

    def note(self) -> None:
        """Note the time."""
        self.reported.append(time.perf_counter())

    def cost(self) -> Cost:
        """Return the time spent beside training."""
        order = read_runs(self.folder)["run_id"].to_pylist()
        rows = read_epochs(self.folder).to_pylist()
        seconds = {row["run_id"]: row["value"] for row in rows if row["metric"] == SECONDS}
        gaps = [later - earlier for earlier, later in zip(self.reported, self.reported[1:], strict=False)]
        beside = [gap - seconds[run_id] for gap, run_id in zip(gaps, order[1:], strict=True)]
        return Cost(self.reported[0] - self.started, statistics.median(beside))


class BareCallback(tune.Callback):
    """Notes on the clock of this process when a trial of bare Tune completes; Tune pickles its callbacks."""

    clock: ClassVar[Clock]

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Note the time."""
        self.clock.note()


def ours(trials: int, folder: Path) -> Cost:
    """Measure a sweep as the command runs it, after its checks."""
    run = replace(recipes.digits(), {"data.validation_fraction": 0.2, "schedule.epochs": 1, "cohort.size": 1})
    space = {SEARCHED: {"kind": "float", "low": 0.0, "high": 1.0}}
    tree = {"run": run, "space": space, "trials": trials, "scheduler": {"kind": "none"}, "sampler": {"kind": "random"}}
    clock = Clock(folder)
    sweep = validate(SweepSpec, tree)
    tuner = SweepTuner(
        sweep=sweep,
        execution=PLACE,
        environment=_environment(folder),
        folder=folder,
        callbacks=[clock],
    )
    with connected(sweep, PLACE, _environment(folder), []):
        tuner.run([], [], None)
    return clock.cost()


def bare(trials: int, folder: Path) -> Cost:
    """Measure Ray Tune alone."""
    clock = BareCallback.clock = Clock(folder)
    with connect(PLACE):
        trainable = tune.with_resources(tune.with_parameters(_train, folder=folder), {"CPU": PLACE.cpus_per_worker})
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
    writer = RunWriter.create(folder, spec, facts=machine_provenance(environment))
    for epoch in iter_recorded_run(spec, _dataset(spec.data, environment), environment, writer):
        tune.report({"epoch": epoch.epoch})


@lru_cache(maxsize=1)
def _dataset(spec: DataSpec, environment: Environment) -> Dataset:
    return load_dataset(spec, environment)


def _environment(folder: Path) -> Environment:
    return Environment(results=folder, device=PLACE.device, threads=1)


def main() -> None:
    """Measure both in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    costs: dict[str, list[Cost]] = {"ours": [], "bare": []}
    for _ in range(asked.repeats):
        for name, measure in (("bare", bare), ("ours", ours)):
            with tempfile.TemporaryDirectory() as folder:
                costs[name].append(measure(asked.trials, Path(folder)))
    figures = {name: _figure(name, costs) for name in Cost._fields}
    print_line("sweep", {"trials": asked.trials} | figures, n=asked.repeats)


def _figure(name: str, costs: dict[str, list[Cost]]) -> dict[str, object]:
    seconds = {way: [getattr(cost, name) for cost in measured] for way, measured in costs.items()}
    return {
        "ratio": ratios(seconds["ours"], seconds["bare"]),
        "seconds_median": {way: round(statistics.median(values), 4) for way, values in seconds.items()},
    }


if __name__ == "__main__":
    import_module("benchmarks.sweep").main()  # workers import the trials' code by this name
