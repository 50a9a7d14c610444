"""The runs that a search trains to their end after its trials, and which of them are left: those of the baseline.

Each is one seed of one configuration, and a Tune trial of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mcl_ray.analysis.roles import BASELINE, COUNTED
from mcl_ray.callbacks import TrialInfo
from mcl_ray.results.store import read_runs
from searches.spec.experiment import Experiment
from searches.spec.space import Point


@dataclass(frozen=True, kw_only=True)
class FurtherRun:
    """One seed of one configuration, trained to its end after the trials."""

    trial_id: str
    """Trial of the search that had this configuration; or `baseline`."""
    point: Point
    repeat: int
    """Number of the seed, from 0."""

    @property
    def info(self) -> TrialInfo:
        """The run as callbacks receive it."""
        return TrialInfo(trial_id=self.trial_id, point=self.point, repeat=self.repeat)


def further_runs(folder: Path, sweep: Experiment) -> list[FurtherRun]:
    """Return the further runs of the sweep in `folder` that have not ended, in the order in which they are trained."""
    states = {(row["trial_id"], row["run_id"]): row["state"] for row in read_runs(folder).to_pylist()}
    return [
        run for run in _planned(sweep) if states.get((run.trial_id, f"{folder.name}-{run.info.name}")) not in COUNTED
    ]


def _planned(sweep: Experiment) -> Iterator[FurtherRun]:
    """Yield every further run, whether or not it has ended."""
    for repeat in range(sweep.repeats if sweep.baseline else 0):
        yield FurtherRun(trial_id=BASELINE, point=sweep.baseline, repeat=repeat)
