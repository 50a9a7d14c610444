"""The engine of a sweep: Ray Tune runs the trials, Optuna proposes them, our store keeps what happened.

Tune's own folder (its snapshot, one small folder a trial) lies in the sweep's folder; runs are written beside it by the
trials themselves. Nothing here schedules anything.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

# Ray reads these when it is imported.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "5")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import ray
from ray import tune
from ray.tune.experiment import Trial
from rich.console import Console

from mcl_ray.environment import Environment
from mcl_ray.errors import MclError, SpecError, StoreError, WorkerDiedError
from mcl_ray.results.store import RunWriter, SweepWriter, is_run, read_runs
from mcl_ray.spec import RunSpec
from searches.convert import to_scheduler, to_searcher
from searches.progress import SweepProgress
from searches.relay import Relay, listening
from searches.spec import SweepSpec
from trainables.trial import TrialJob, begin_run, run_of_trial, train_trial

# A trial that goes on tells of its last epoch once more.
warnings.filterwarnings("ignore", message="The reported value is ignored because this `step=", category=UserWarning)

TUNE_FOLDER = "tune"
OBJECT_STORE_BYTES = 200_000_000


@dataclass(frozen=True, kw_only=True)
class TrialResources:
    """What one trial asks of the cluster."""

    cpus: float = 1
    gpus: float | None = None
    """None takes one GPU where the cluster has any."""


def run_trials(
    sweep: SweepSpec, environment: Environment, resources: TrialResources, writer: SweepWriter, console: Console
) -> bool:
    """Run the sweep's trials, or those left of them where `writer`'s folder holds a sweep that was interrupted.

    Returns:
        Whether all came to their end, or the time limit did; if not, a person interrupted the sweep.
    """
    started = time.monotonic()
    with _ray(console):
        tuner = _tuner(sweep, environment, resources, writer)
        progress = SweepProgress(sweep, console, partial(_why_failed, writer.folder))
        with progress, listening(partial(_record_death, sweep, writer.folder), progress):
            results = tuner.fit()
    unfinished = [trial for name, trial in progress.trials.items() if name not in progress.finished]
    for trial in unfinished:
        _record_interruption(writer.folder, trial)
    out_of_time = sweep.time_limit_s is not None and time.monotonic() - started >= sweep.time_limit_s
    return out_of_time or (not unfinished and len(results) == sweep.trials)


def _record_death(sweep: SweepSpec, sweep_folder: Path, event: str, trial: Trial, _: list[Trial]) -> None:
    """Put on record what a trial could not say itself, because its process is gone."""
    if event != "failed":
        return
    folder = run_of_trial(sweep_folder, trial.trial_id)
    if not is_run(folder):
        run, error = _why_never_begun(sweep, trial.config)
        begin_run(sweep_folder, trial.trial_id, run, trial.config, None).finish("failed", error)
    elif _record(folder)["state"] in ("running", "interrupted"):
        gone = WorkerDiedError("the trial's process went away: killed, or its node lost")
        RunWriter.amend(folder).finish("failed", gone)


def _why_never_begun(sweep: SweepSpec, config: dict[str, Any]) -> tuple[RunSpec, MclError]:
    """The run that a trial should have trained, and why it did not; values may each be right and not go together."""
    try:
        return sweep.trial_run(config), WorkerDiedError("the trial's process went away before its run began")
    except SpecError as broken:
        return sweep.run, broken


def _why_failed(sweep_folder: Path, trial: Trial) -> str:
    row = _record(run_of_trial(sweep_folder, trial.trial_id))  # a death is recorded before it is told
    return f"{row['error_type']}: {row['error']}"


def _record_interruption(sweep: Path, trial: Trial) -> None:
    """To the trial, an interrupted sweep looks like an early stop."""
    folder = run_of_trial(sweep, trial.trial_id)
    if is_run(folder) and _record(folder)["state"] != "finished":
        RunWriter.amend(folder).finish("interrupted")


def _record(folder: Path) -> dict[str, Any]:
    (row,) = read_runs(folder).to_pylist()
    return dict(row)


@contextmanager
def _ray(console: Console) -> Iterator[None]:
    """A local Ray of our own, never somebody else's that happens to run here."""
    context = ray.init(
        address="local",
        include_dashboard=True,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=OBJECT_STORE_BYTES,
    )
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # a failed trial is told by our own line and its record
    console.print(f"Ray dashboard: http://{context.dashboard_url}", highlight=False)
    try:
        yield
    finally:
        ray.shutdown()


def _tuner(sweep: SweepSpec, environment: Environment, resources: TrialResources, writer: SweepWriter) -> tune.Tuner:
    job = TrialJob(sweep=writer.folder.resolve(), run=sweep.run, environment=environment)
    have = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if resources.cpus > have.get("CPU", 0):
        raise SpecError(f"a trial needs {resources.cpus} CPU cores, but Ray found {have.get('CPU', 0):g}")
    gpus = min(1, have.get("GPU", 0)) if resources.gpus is None else resources.gpus
    gpus = 0 if environment.device == "cpu" else gpus
    trainable = tune.with_resources(tune.with_parameters(train_trial, job=job), {"CPU": resources.cpus, "GPU": gpus})
    storage = writer.folder.resolve()
    if tune.Tuner.can_restore(str(storage / TUNE_FOLDER)):
        return tune.Tuner.restore(str(storage / TUNE_FOLDER), trainable=trainable, resume_unfinished=True)
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            mode="max",
            metric=sweep.objective,
            num_samples=sweep.trials,
            search_alg=to_searcher(sweep, writer.sweep_id),
            scheduler=to_scheduler(sweep.scheduler, sweep.run.schedule.epochs),
            time_budget_s=sweep.time_limit_s,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(name=TUNE_FOLDER, storage_path=str(storage), callbacks=[Relay()], verbose=0),
    )


def check_resumable(folder: Path) -> None:
    """Only a sweep that Tune took a snapshot of can go on.

    Raises:
        StoreError: there is no snapshot.
    """
    if not tune.Tuner.can_restore(str(folder.resolve() / TUNE_FOLDER)):
        raise StoreError(
            f"a sweep resumes from Tune's snapshot, but {folder} has none: it ended before its first trial"
        )
