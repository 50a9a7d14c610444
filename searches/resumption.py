"""Planning how a sweep is resumed, from its records, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcl_ray.config.plugins import import_plugins
from mcl_ray.errors import SpecError, StoreError
from mcl_ray.results.store import RunWriter, read_runs, read_sweeps, state_of
from searches.further_runs import FurtherRun, failed_further_runs, further_runs
from searches.spec.difference import difference, only_extends
from searches.spec.experiment import Experiment
from searches.spec.stored_spec import parse_stored, stored_plugins
from searches.trial_history import KnownTrial, read_trials

Change = Callable[[Experiment], Experiment]


def unchanged(experiment: Experiment) -> Experiment:
    """Return the experiment itself: a sweep is resumed as it is."""
    return experiment


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """A sweep that is to be resumed."""

    folder: Path
    experiment: Experiment
    """The experiment from now on."""
    retried: Sequence[KnownTrial]
    """Trials with failed seeds, which are tried again."""
    retried_further: Sequence[FurtherRun]
    """Failed further runs that are tried again."""
    left: int
    """Number of trials that remain, those that are tried again among them."""
    further: int
    """Number of further runs that remain after the trials, those that are tried again among them."""
    time_left_s: float | None
    """Seconds that remain; None: no limit."""
    out_of_time: bool
    """True if trials remain, but no time: the sweep is concluded without them."""
    nothing_left: bool
    """True if the sweep is finished, and neither changed nor retried."""

    @property
    def retried_text(self) -> str:
        """Names of what is tried again, as `1 failed trials and 2 failed seeds`; empty if nothing is."""
        others = [trial for trial in self.retried if trial.state != "failed"]
        numbers = {
            "trials": len(self.retried) - len(others),
            "seeds": len(self.retried_further) + sum(len(trial.failed_run_ids) for trial in others),
        }
        return " and ".join(f"{number} failed {name}" for name, number in numbers.items() if number)

    @property
    def trains(self) -> bool:
        """True if trials are run."""
        return self.left + self.further > 0 and not self.out_of_time

    def take_up_failed(self) -> None:
        """Record the failed runs that are tried again as interrupted."""
        run_ids = [run_id for trial in self.retried for run_id in trial.failed_run_ids]
        run_ids += [f"{self.folder.name}-{run.info.name}" for run in self.retried_further]
        for run in (self.folder / "runs" / run_id for run_id in run_ids):
            if state_of(run) == "failed":
                RunWriter.amend(run).finish("interrupted")


def has_failed_runs(folder: Path) -> bool:
    """Return whether a run of the sweep in `folder`, its records up to date, failed."""
    return "failed" in read_runs(folder)["state"].to_pylist()


def plan_resumption(
    folder: Path, change: Change = unchanged, *, retry_failed: bool = False, follower_failed: bool = False
) -> Resumption:
    """Return what resuming the sweep in `folder` will do.

    Args:
        folder: Of the sweep, its records up to date.
        change: Returns the experiment from now on; it may raise the fields that are `extensible`.
        retry_failed: Try failed trials and seeds again.
        follower_failed: Whether a sweep that follows this one has failed runs, so that this one need not have any.

    Raises:
        SpecError: other fields have changed, a plugin cannot be imported, or trials remain but no time.
        StoreError: failed ones are to be tried again, but there are none.
    """
    (row,) = read_sweeps(folder).to_pylist()
    import_plugins(stored_plugins(row["spec"]))
    before = parse_stored(row["spec"])
    experiment = _changed(before, change)
    trials = read_trials(folder, experiment)
    failed = [trial for trial in trials if trial.failed_run_ids] if retry_failed else []
    failed_further = failed_further_runs(folder, experiment, trials) if retry_failed else []
    retries = bool(failed or failed_further)
    if retry_failed and not retries and not follower_failed:
        raise StoreError(f"only failed trials and seeds can be tried again, but {folder.name} has none")
    left = experiment.trials - sum(trial.state != "unfinished" and trial not in failed for trial in trials)
    limit = experiment.strategy.time_limit_s
    time_left_s = None if limit is None else max(0.0, limit - row["wall_time_s"])
    is_same = experiment == before and not retries
    out_of_time = time_left_s == 0 and row["state"] != "finished" and is_same
    further = len(further_runs(folder, experiment, trials)) + len(failed_further)
    if left + further and time_left_s == 0 and not out_of_time:
        raise _no_time(folder.name, limit or 0.0, row["wall_time_s"])
    return Resumption(
        folder=folder,
        experiment=experiment,
        retried=failed,
        retried_further=failed_further,
        left=left,
        further=further,
        time_left_s=time_left_s,
        out_of_time=out_of_time,
        nothing_left=row["state"] == "finished" and is_same and not left and not further,
    )


def _changed(before: Experiment, change: Change) -> Experiment:
    after = change(before)
    if not only_extends(before, after):
        raise SpecError(
            "a resumed sweep must keep its spec, or raise trials, time_limit_s or keep_checkpoints, but got "
            f"{'; '.join(difference(before, after))}"
        )
    return after


def _no_time(name: str, limit_s: float, spent_s: float) -> SpecError:
    command = f"python -m mcl_ray.sweep --resume {name} time_limit_s=SECONDS"
    return SpecError(
        f"trials continue while time_limit_s is above the time they took, but {name} has time_limit_s={limit_s:g} and "
        f"took {spent_s:.0f} s; `{command}` gives it more"
    )
