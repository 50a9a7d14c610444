"""Tune's searcher that proposes given configurations, one after another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from trainables.trial_job import SCORE


class ListedTrials(Searcher):
    """Proposes each configuration of a list once; results do not change what it proposes."""

    def __init__(self, configs: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(metric=SCORE, mode="max")
        self._left = [dict(config) for config in configs]

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]
        """Return the next configuration; `FINISHED` if there is none."""
        return self._left.pop(0) if self._left else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Ignore how a trial ended."""

    def save(self, checkpoint_path: str) -> None:
        """Write the configurations that are left. Tune calls this; a sweep is resumed from its own records."""
        Path(checkpoint_path).write_text(json.dumps(self._left))

    def restore(self, checkpoint_path: str) -> None:
        """Read the configurations that are left."""
        self._left = json.loads(Path(checkpoint_path).read_text())
