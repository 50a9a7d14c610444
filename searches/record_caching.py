"""The callback that caches the records of trials as they end, so that resuming a very large sweep reads few files."""

from __future__ import annotations

from pathlib import Path

from mcl_ray.callbacks import SweepCallback, TrialEnd, TrialInfo
from mcl_ray.results.store import cache_records
from searches.sweep_recorder import log_store_errors

RUNS_AT_A_TIME = 100
"""Runs that are cached together, once as many have ended after them: files that changed just now are not cached."""


class RecordCaching(SweepCallback):
    """Caches the records of a sweep's trials, some time after they ended; small sweeps have no cache."""

    def __init__(self, folder: Path, repeats: int) -> None:
        self._runs, self._repeats = folder / "runs", repeats
        self._ended: list[Path] = []

    def on_trial_end(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Cache the records of earlier trials, if enough have ended."""
        repeats = range(self._repeats) if trial.repeat is None else [trial.repeat]
        sweep_id = self._runs.parent.name
        self._ended += [self._runs / f"{sweep_id}-{trial.trial_id}-r{repeat}" for repeat in repeats]
        if len(self._ended) >= 2 * RUNS_AT_A_TIME:
            earlier, self._ended = self._ended[:RUNS_AT_A_TIME], self._ended[RUNS_AT_A_TIME:]
            with log_store_errors("the records of runs are not cached"):
                cache_records(earlier)
