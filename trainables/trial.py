"""A single-worker trial: one configuration trained inside the Tune trial itself, by the same loop as everywhere.

Early stops come from Tune between epochs; checkpoints and figures are ours, so a trial that is started again goes on
from its own run's folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ray import tune

from mcl_ray.data.dataset import Dataset
from mcl_ray.data.source import load_dataset
from mcl_ray.environment import Environment
from mcl_ray.overrides import replace
from mcl_ray.results.store import Facts, RunWriter
from mcl_ray.spec import DataSpec, RunSpec
from mcl_ray.training.loop import EpochReport
from mcl_ray.training.run import EarlyStop, machine_facts, train_run


@dataclass(frozen=True, kw_only=True)
class TrialJob:
    """What all trials of a sweep have in common."""

    sweep: Path
    """The sweep's folder; its runs are written below it."""
    run: RunSpec
    environment: Environment


def train_trial(config: dict[str, Any], job: TrialJob) -> None:
    """Train the job's run with the fields of `config` replaced, reporting to Tune after every epoch.

    Reports `epoch`, and every figure under split/metric/member.
    """
    spec = replace(job.run, config)
    dataset = _dataset(spec.data, job.environment.data)
    trial_id = tune.get_context().get_trial_id()
    writer = begin_run(job.sweep, trial_id, spec, config, machine_facts(job.environment))
    try:
        train_run(spec, dataset, job.environment, writer, report=_tell_tune)
    except EarlyStop as stop:
        raise SystemExit(0) from stop


def _tell_tune(epoch: EpochReport, checkpoint: Path | None) -> None:  # noqa: ARG001 -- a Report; checkpoints are ours
    figures = {f"{row.split}/{row.metric}/{row.member}": row.value for row in epoch.rows}
    try:
        tune.report({"epoch": epoch.epoch} | figures)
    except SystemExit as stop:  # how Tune ends a trial that its scheduler stopped
        raise EarlyStop from stop


def begin_run(sweep: Path, trial_id: str, spec: RunSpec, config: dict[str, Any], facts: Facts | None) -> RunWriter:
    """The run of a trial: a new one, or the one that the trial began before it was lost."""
    name = run_of_trial(sweep, trial_id).name
    return RunWriter.begin(sweep, name, spec, searched=config, sweep_id=sweep.name, trial_id=trial_id, facts=facts)


def run_of_trial(sweep: Path, trial_id: str) -> Path:
    """The folder of a trial's run, begun or not: its name is the sweep's and the trial's, both unique."""
    return sweep / "runs" / f"{sweep.name}-{trial_id}"


@lru_cache(maxsize=1)
def _dataset(spec: DataSpec, path: Path) -> Dataset:
    """Read once per process: trials that follow one another share it."""
    return load_dataset(spec, path)
