"""A warm start: which trials of earlier sweeps a new sweep's sampler learns from, and why others are left out.

A trial is taken if its run is a run of the new search: it lies in the space, and is the same outside of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mcl_ray.config.effects import acts
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import flat
from mcl_ray.config.spec import RunSpec
from mcl_ray.config.yaml12 import inline
from mcl_ray.errors import SpecError
from mcl_ray.results.remote import pull
from mcl_ray.results.store import find_sweep, read_sweeps
from mcl_ray.results.warm_start import WarmStart
from searches.spec.experiment import Experiment
from searches.spec.space import Choice, Dimension, Point
from searches.spec.start import completed
from searches.spec.stored_spec import parse_stored
from searches.trial_history import KnownTrial, read_trials

LABELS = ("version", "recipe", "seed")
"""Fields of a run that do not change how good a configuration is."""
MAX_VALUES = 3
"""Maximum number of values that a reason names."""


@dataclass(frozen=True, kw_only=True)
class EarlierTrials:
    """The trials of one earlier sweep."""

    taken: Sequence[KnownTrial]
    """Trials that the sampler learns from, their points in the new space."""
    summary: WarmStart
    """Their number, and the numbers of those that are left out, by the reason."""


@dataclass(frozen=True)
class _Misfit:
    """A field in which a trial's run is no run of the new search."""

    field: str
    value: str
    """Value of the trial."""
    allowed: str
    """Values that the field has in the new search."""


def find_earlier(environment: Environment, sweep_id: str) -> Path:
    """Return the folder of a recorded sweep; of a store, with its records up to date.

    Raises:
        StoreError: there is no such sweep.
    """
    pull.fetch(environment.results / "sweeps", only=pull.is_of_sweep)
    folder = find_sweep(environment.results, sweep_id)
    pull.fetch(folder)
    return folder


def read_earlier(sweep: Experiment, environment: Environment) -> list[EarlierTrials]:
    """Return the trials of the sweeps that a sweep starts warm from.

    Raises:
        StoreError: there is no such sweep.
        SpecError: one is scored differently.
    """
    found = []
    for sweep_id in sweep.strategy.warm_start:
        if environment.store is not None:
            pull.open_replica(environment.store)
        folder = find_earlier(environment, sweep_id)
        (row,) = read_sweeps(folder).to_pylist()
        earlier = parse_stored(row["spec"])
        check_comparable(sweep, earlier, folder.name)
        found.append(select(sweep, earlier, folder.name, read_trials(folder, earlier)))
    return found


def check_taken(found: Sequence[EarlierTrials]) -> None:
    """Check that a warm start, if there is one, takes a trial.

    Raises:
        SpecError: it takes none.
    """
    if found and not any(earlier.taken for earlier in found):
        summaries = "; ".join(str(earlier.summary) for earlier in found)
        raise SpecError(
            "a warm start takes the scored trials whose runs are runs of this search: `trials taken >= 1` must hold, "
            f"but got {summaries}"
        )


def check_comparable(sweep: Experiment, earlier: Experiment, name: str) -> None:
    """Check that the sampler of one sweep can learn from another's scores: their runs differ in searched fields alone.

    Raises:
        SpecError: they are not; `name` is that of the earlier one.
    """

    def scored(of: Experiment) -> dict[str, object]:
        run = {f"run.{path}": value for path, value in flat(of.run).items()}
        searched = {f"run.{path}" for path in (*LABELS, *sweep.space, *earlier.space)}
        fixed = {path: value for path, value in run.items() if path not in searched}
        score = of.scoring.score
        return {"objective": of.objective, "score.kind": score.kind, "score.k": score.k} | fixed

    own, other = scored(sweep), scored(earlier)
    changed = [field for field in own if own[field] != other[field]]
    differing = [f"{field}={inline(other[field])} (here {inline(own[field])})" for field in changed]
    if differing:
        raise SpecError(
            "a warm start needs sweeps that are scored alike, with the same run outside both spaces, but "
            f"{name} has {', '.join(differing)}"
        )


def select(sweep: Experiment, earlier: Experiment, name: str, trials: Sequence[KnownTrial]) -> EarlierTrials:
    """Return the trials of an earlier sweep, comparable and called `name`, that `sweep` can learn from, and the rest.

    Of several reasons to leave a trial out, the first counts.
    """
    taken: list[KnownTrial] = []
    others: Counter[str] = Counter()
    misfits: list[_Misfit] = []
    for trial in trials:
        if trial.state in ("failed", "unfinished") or trial.score is None:
            others[trial.state if trial.state in ("failed", "unfinished") else "without a score"] += 1
            continue
        run = earlier.trial_run(trial.point)
        point = completed({}, sweep.space, run)
        try:
            misfit = _misfit(sweep, run, point)
        except SpecError as refused:
            others[f"with values that this search refuses ({refused})"] += 1
            continue
        if misfit is None:
            taken.append(replace(trial, point=point))
        else:
            misfits.append(misfit)
    summary = WarmStart(sweep_id=name, num_taken=len(taken), left_out=_reasons(misfits) | others)
    return EarlierTrials(taken=taken, summary=summary)


def _misfit(sweep: Experiment, run: RunSpec, point: Point) -> _Misfit | None:
    """Return the first field in which a run, whose values in the space are `point`, is no run of the search.

    Raises:
        SpecError: the search's own values are not valid together with those of the point.
    """
    for path, value in point.items():
        if value not in sweep.space[path]:
            return _Misfit(path, inline(value), _described(sweep.space[path]))
    own = sweep.trial_run(point)
    values, own_values = _comparable(run), _comparable(own)
    differing = (path for path in own_values if values[path] != own_values[path] and acts(own, path))
    return next((_Misfit(path, inline(values[path]), inline(own_values[path])) for path in differing), None)


def _comparable(run: RunSpec) -> dict[str, object]:
    """Return the fields of a run without its labels; of weights, those that are not zero."""
    fields = {path: value for path, value in flat(run).items() if path not in LABELS}
    weights = {path: value for path, value in fields.items() if isinstance(value, dict)}
    return fields | {path: {name: one for name, one in value.items() if one} for path, value in weights.items()}


def _described(dimension: Dimension) -> str:
    """Return the values of a dimension as text."""
    if isinstance(dimension, Choice):
        return ", ".join(inline(value) for value in dimension.values)
    step = f" in steps of {dimension.step}" if dimension.step not in (None, 1) else ""
    return f"{dimension.low} to {dimension.high}{step}"


def _reasons(misfits: Sequence[_Misfit]) -> dict[str, int]:
    """Return reason → number of trials, with the values of the field in question."""
    values: dict[tuple[str, str], list[str]] = {}
    for misfit in misfits:
        values.setdefault((misfit.field, misfit.allowed), []).append(misfit.value)
    return {
        f"with {field}={_listed(list(dict.fromkeys(found)))} (here {allowed})": len(found)
        for (field, allowed), found in values.items()
    }


def _listed(values: Sequence[str]) -> str:
    return ", ".join(values[:MAX_VALUES]) + (", …" if len(values) > MAX_VALUES else "")
