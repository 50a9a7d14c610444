"""A trial that a pack trains: Tune's part of it, which asks the pack for its reports.

Its process does not import torch. What trains it is `pack_actor.py`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import ray
from ray import tune

from trainables.trial_job import info_of

FULL_S = 0.1
"""Seconds until a trial asks again if every pack is full, as a trial before it has not left yet."""


class PackedTrial(tune.Trainable):
    """One configuration that is trained in one of several packs; to be run with the resources of no core."""

    def setup(self, config: dict[str, Any], packs: Sequence[Any]) -> None:  # type: ignore[override]
        """Join a pack that is not full."""
        self._packs = packs
        self._join(config)

    def step(self) -> dict[str, Any]:
        """Return the report of the next epoch; or of a failure; the last one says that there are no more."""
        return cast("dict[str, Any]", ray.get(self._pack.next.remote(self._config_of_trial)))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Join a pack as another trial, in this process."""
        self._join(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing: a trial resumes from its runs' folders. Tune calls this whenever a trial ends."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Load nothing, as nothing was saved."""

    def _join(self, config: dict[str, Any]) -> None:
        self._config_of_trial, trial = config, info_of(config).name
        found = self._first("has", trial) or self._first("accept", trial)
        while found is None:
            time.sleep(FULL_S)
            found = self._first("accept", trial)
        self._pack = found

    def _first(self, method: str, trial: str) -> Any:
        """Return the first pack whose method returns True; None without one."""
        return next((pack for pack in self._packs if ray.get(getattr(pack, method).remote(trial))), None)
