"""The runs that a search trains to their end after its trials: seeds of its best configurations, and for comparison.

Which configurations get further seeds follows from the records alone, so that a sweep that was killed continues with
the same. Each run is one seed of one configuration, and a Tune trial of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcl_ray.analysis.roles import COMPARED, COUNTED, is_further, repeat_of
from mcl_ray.callbacks import TrialInfo
from mcl_ray.results.store import is_run, read_runs, state_of
from searches.spec.experiment import Experiment
from searches.spec.space import Point
from searches.trial_history import KnownTrial


@dataclass(frozen=True, kw_only=True)
class FurtherRun:
    """One seed of one configuration, trained to its end after the trials."""

    trial_id: str
    """Trial of the search that had this configuration; or one of `COMPARED`."""
    point: Point
    repeat: int
    """Number of the seed, from 0."""

    @property
    def info(self) -> TrialInfo:
        """The run as callbacks receive it."""
        return TrialInfo(trial_id=self.trial_id, point=self.point, repeat=self.repeat)


def further_runs(folder: Path, sweep: Experiment, trials: Sequence[KnownTrial]) -> list[FurtherRun]:
    """Return the further runs of the sweep in `folder` that have not ended, in the order in which they are trained.

    Args:
        folder: Folder of the sweep.
        sweep: Its spec.
        trials: All its trials, as `read_trials` returns them.
    """
    return [run for run, state in _states(folder, sweep, trials) if state not in COUNTED]


def failed_further_runs(folder: Path, sweep: Experiment, trials: Sequence[KnownTrial]) -> list[FurtherRun]:
    """Return the further seeds of the sweep in `folder` that failed, and those for comparison.

    Those of configurations that others have overtaken since are among them; seeds of the trials themselves are not. The
    arguments are those of `further_runs`.
    """
    failed = [run for run, state in _states(folder, sweep, trials) if state == "failed"]
    return [run for run in failed if run.trial_id in COMPARED or run.repeat >= sweep.repeats]


def _states(folder: Path, sweep: Experiment, trials: Sequence[KnownTrial]) -> Iterator[tuple[FurtherRun, str | None]]:
    """Yield every further run with its recorded state."""
    planned = {run.info.name: run for run in _planned(sweep, trials)}
    for name, run in planned.items():
        own = folder / "runs" / f"{folder.name}-{name}"
        yield run, state_of(own) if is_run(own) else None
    yield from ((run, state) for run, state in _started(folder, sweep, trials) if run.info.name not in planned)


def _started(folder: Path, sweep: Experiment, trials: Sequence[KnownTrial]) -> Iterator[tuple[FurtherRun, str]]:
    """Yield the further seeds that were ever started, with their recorded states.

    Trials that a search was extended by, or that were tried again, may have overtaken their configurations since.
    """
    points = {trial.trial_id: trial.point for trial in trials if trial.state in ("finished", "stopped")}
    for row in read_runs(folder).select(["run_id", "trial_id", "state"]).to_pylist():
        if row["trial_id"] in points and is_further(row, sweep.repeats):
            trial_id, repeat = row["trial_id"], repeat_of(row["run_id"])
            yield FurtherRun(trial_id=trial_id, point=points[trial_id], repeat=repeat), row["state"]


def _planned(sweep: Experiment, trials: Sequence[KnownTrial]) -> Iterator[FurtherRun]:
    """Yield every further run, whether or not it has ended.

    The first seeds of the run's own values are among them, for a trial of these that was stopped early.
    """
    own = _own(sweep, trials)
    for trial in [*([] if own is None else [own]), *_best(sweep, trials, own)]:
        for repeat in range(0 if trial is own else sweep.repeats, sweep.num_seeds):
            yield FurtherRun(trial_id=trial.trial_id, point=trial.point, repeat=repeat)
    for trial_id, point in sweep.compared.items():
        for repeat in range(sweep.num_seeds):
            yield FurtherRun(trial_id=trial_id, point=point, repeat=repeat)


def _own(sweep: Experiment, trials: Sequence[KnownTrial]) -> KnownTrial | None:
    """Return the trial of the run's own values; None if there is none, or it failed."""
    if not sweep.num_confirmed:
        return None
    ended = (trial for trial in trials if trial.state in ("finished", "stopped"))
    return next((trial for trial in ended if trial.point == sweep.own_point), None)


def _best(sweep: Experiment, trials: Sequence[KnownTrial], own: KnownTrial | None) -> list[KnownTrial]:
    """Return the best trials that trained to the end, without the run's own values.

    As in the ranking, those with a seed that failed come after the others.
    """
    finished = [trial for trial in trials if trial.state == "finished" and trial.score is not None and trial is not own]
    finished.sort(key=lambda trial: (trial.n < sweep.repeats, -(trial.score or 0.0), trial.trial_id))
    return finished[: sweep.num_confirmed]
