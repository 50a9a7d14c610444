"""The Optuna studies of all jobs as one storage, to read; the only module of the service that imports Optuna."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Container
from pathlib import Path
from typing import Any, Never

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.pool import NullPool

MOST_STUDIES = 100
"""Studies that are shown at most, the newest ones."""


class JobStudies(BaseStorage):
    """The database that each sweep exports its trials to, `study.db` in its folder, one study each."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def get_all_studies(self) -> list[FrozenStudy]:
        """Return the studies, the newest first."""
        files, found = sorted(self._files().values(), key=lambda file: -file.stat().st_mtime), list[FrozenStudy]()
        for file in files[:MOST_STUDIES]:
            with contextlib.suppress(IndexError, StorageInternalError):  # one that a sweep has not written yet
                found.append(self._study(file))
        return found

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials of a study."""
        storage = _storage(self._file(study_id))
        return storage.get_all_trials(storage.get_all_studies()[0]._study_id, deepcopy, states)

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return the id of a study: of its path, so that it stays the same."""
        for study_id, file in self._files().items():
            if _name(file) == study_name:
                return study_id
        raise KeyError(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        """Return the name of a study: its sweep's and its job's."""
        return _name(self._file(study_id))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Return the directions of a study's objectives."""
        return self._study(self._file(study_id)).directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the attributes of a study."""
        return self._study(self._file(study_id)).user_attrs

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the attributes that Optuna keeps for itself."""
        return self._study(self._file(study_id)).system_attrs

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Find no trial: ids of trials are unique in one study only."""
        raise KeyError(trial_id)

    def _refuse(self, *_: Any, **__: Any) -> Never:
        raise PermissionError("the studies of jobs are shown, and not changed")

    create_new_study = delete_study = set_study_user_attr = set_study_system_attr = _refuse
    create_new_trial = set_trial_param = set_trial_state_values = set_trial_intermediate_value = _refuse
    set_trial_user_attr = set_trial_system_attr = _refuse

    def _files(self) -> dict[int, Path]:
        return {_id(file): file for file in self._root.glob("jobs/*/results/sweeps/*/study.db")}

    def _file(self, study_id: int) -> Path:
        return self._files()[study_id]

    def _study(self, file: Path) -> FrozenStudy:
        study = copy.copy(_storage(file).get_all_studies()[0])
        study._study_id, study.study_name = _id(file), _name(file)
        return study


def _id(file: Path) -> int:
    return int.from_bytes(hashlib.sha256(bytes(file)).digest()[:6])  # a number that JavaScript can hold


def _name(file: Path) -> str:
    return f"{file.parent.name} of job {file.parents[3].name}"


def _storage(file: Path) -> RDBStorage:
    """Open a database; SQLite itself refuses to write into it."""
    return RDBStorage(
        f"sqlite:///file:{file}?mode=ro&uri=true",
        engine_kwargs={"poolclass": NullPool},
        skip_compatibility_check=True,
        skip_table_creation=True,
    )
