"""Bringing an exported study up to date with a sweep's records, so that a trial's number is its id.

Optuna numbers trials in the order in which they are added. A study in which that order differs from the ids, as after a
kill or a retry, is written anew under its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from searches.spec.experiment import Experiment
from searches.spec.space import Point
from searches.trial_history import KnownTrial
from searches.tune.converters import TRIAL_ATTR, to_distributions, to_frozen_trial, to_params

STATES = {"finished": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}
NEVER_RECORDED = "it was never recorded"


def update_study(
    storage: BaseStorage, study_id: int, sweep: Experiment, known: Sequence[KnownTrial]
) -> tuple[int, dict[str, int]]:
    """Make a study hold the recorded trials, each with its id as its number, and those without a record as failed.

    Args:
        storage: The study's database.
        study_id: The study.
        sweep: The search or suite.
        known: Every recorded trial.

    Returns:
        The study, another one if it was written anew, and the trials that are running, by their ids.
    """
    by_id = {trial.trial_id: trial for trial in known}
    wanted = [f"{number:04d}" for number in range(1 + max(map(int, by_id), default=-1))]
    found = storage.get_all_trials(study_id, deepcopy=False)
    if not _agree(found, wanted, by_id):
        study_id, found = _emptied(storage, study_id), []
    for exported, trial_id in zip(found, wanted, strict=False):
        if not exported.state.is_finished():
            _settle(storage, exported._trial_id, sweep, by_id.get(trial_id))
    for trial_id in wanted[len(found) :]:
        storage.create_new_trial(study_id, template_trial=_exported(sweep, trial_id, by_id.get(trial_id)))
    now = storage.get_all_trials(study_id, deepcopy=False)
    running = {str(one.user_attrs[TRIAL_ATTR]): one._trial_id for one in now if not one.state.is_finished()}
    return study_id, running


def running_trial(sweep: Experiment, trial_id: str, point: Point) -> FrozenTrial:
    """Return a trial that runs."""
    return create_trial(
        state=TrialState.RUNNING,
        params=to_params(sweep.space, point),
        distributions=to_distributions(sweep.space, point),
        user_attrs={TRIAL_ATTR: trial_id},
    )


def _agree(found: Sequence[FrozenTrial], wanted: Sequence[str], by_id: Mapping[str, KnownTrial]) -> bool:
    """Return whether the trials of a study are the first ones that it should have, none of them with another end."""
    if len(found) > len(wanted):
        return False
    for exported, trial_id in zip(found, wanted, strict=False):
        trial = by_id.get(trial_id)
        end = TrialState.FAIL if trial is None else STATES.get(trial.state)
        if exported.user_attrs.get(TRIAL_ATTR) != trial_id or (exported.state.is_finished() and exported.state != end):
            return False
    return True


def _emptied(storage: BaseStorage, study_id: int) -> int:
    """Replace a study by an empty one of the same name, with what its users have noted of it."""
    name, directions = storage.get_study_name_from_id(study_id), storage.get_study_directions(study_id)
    notes, own = storage.get_study_user_attrs(study_id), storage.get_study_system_attrs(study_id)
    storage.delete_study(study_id)
    new = storage.create_new_study(directions, name)
    for key, value in notes.items():
        storage.set_study_user_attr(new, key, value)
    for key, value in own.items():
        storage.set_study_system_attr(new, key, value)
    return new


def _exported(sweep: Experiment, trial_id: str, trial: KnownTrial | None) -> FrozenTrial:
    if trial is None:
        return create_trial(state=TrialState.FAIL, user_attrs={TRIAL_ATTR: trial_id, "error": NEVER_RECORDED})
    if trial.state == "unfinished":
        return running_trial(sweep, trial_id, trial.point)
    return to_frozen_trial(sweep, trial, STATES)


def _settle(storage: BaseStorage, number: int, sweep: Experiment, trial: KnownTrial | None) -> None:
    """Update a trial that is RUNNING in the database; one that is unfinished stays so."""
    if trial is not None and trial.state == "unfinished":
        return
    ended = None if trial is None else to_frozen_trial(sweep, trial, STATES)
    if ended is None or ended.state == TrialState.FAIL:
        storage.set_trial_state_values(number, TrialState.FAIL)
    else:
        storage.set_trial_state_values(number, ended.state, ended.values)
