"""The ranking of a whole sweep: its record, its tables, and its configurations from best to worst."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from mcl_ray.analysis.improvement import Improvement, NoImprovement, improvement
from mcl_ray.analysis.ranking import Ranked, best_of, ranking
from mcl_ray.config.scoring import Scoring
from mcl_ray.errors import StoreError
from mcl_ray.results.queries import Objective, for_ranking
from mcl_ray.results.reader import is_sweep, read_epochs, read_runs, read_sweeps
from mcl_ray.results.schema import concatenated


@dataclass(frozen=True, kw_only=True)
class SweepRanking:
    """A sweep with its configurations, from best to worst."""

    sweep: Mapping[str, Any]
    """Row of the table of sweeps."""
    folder: Path
    runs: pa.Table
    epochs: pa.Table
    """Figures that the ranking is made from, see `mcl_ray.results.queries.for_ranking`."""
    scoring: Scoring
    rows: Sequence[Ranked]
    """Configurations; those without a score come last."""

    @property
    def objective(self) -> str:
        """Key of the objective, `split/metric/member`."""
        return str(self.sweep["objective"])

    @property
    def goal(self) -> Objective:
        """The objective."""
        return Objective.parse(self.objective)

    @property
    def mode(self) -> str:
        """`max` or `min`."""
        return str(self.sweep["mode"])

    @property
    def improvement(self) -> Improvement | NoImprovement | None:
        """Best configuration of a search against the run's own values; None without a best one, or in a suite."""
        spec = json.loads(self.sweep["spec"])
        if "rows" in spec or "run" not in spec:
            return None
        return improvement(self.rows, self.runs, self.epochs, self.objective, self.mode, self.sweep["spec"])

    @property
    def log_fields(self) -> dict[str, bool]:
        """Searched field → whether it was searched on a logarithmic scale, for fields of numbers."""
        space = json.loads(self.sweep["spec"]).get("space") or {}
        return {path: bool(dimension.get("log")) for path, dimension in space.items() if "low" in dimension}

    @property
    def rungs(self) -> list[int]:
        """Epochs at which trials were compared and may have been stopped."""
        spec = json.loads(self.sweep["spec"])
        scheduler, epochs = spec.get("scheduler") or {}, self._epochs_planned
        if scheduler.get("kind", "none") == "none":
            return []
        grace, factor = scheduler["grace_epochs"], scheduler["reduction_factor"]
        powers = range(max(1, epochs).bit_length())
        return [grace * factor**power for power in powers if grace * factor**power < epochs]

    @property
    def _epochs_planned(self) -> int:
        return max(self.runs["epochs_planned"].to_pylist(), default=0)

    @property
    def best(self) -> Ranked | None:
        """The best configuration; None if none has a score."""
        return best_of(self.rows)

    @property
    def best_epochs(self) -> pa.Table:
        """All figures of the runs of the best configuration; none without one."""
        run_ids = () if self.best is None else self.best.run_ids
        return concatenated("epochs", (read_epochs(self.folder / "runs" / run_id) for run_id in run_ids))


def rank_sweep(folder: Path) -> SweepRanking:
    """Read a sweep, and rank its configurations by the score that its spec selects.

    Raises:
        StoreError: `folder` is not the folder of one sweep, or holds damaged files.
    """
    if not is_sweep(folder):
        raise StoreError(f"a ranking needs the folder of a sweep, but {folder} is not one")
    (sweep,) = read_sweeps(folder).to_pylist()
    scoring, goal = Scoring.parse(sweep["spec"]), Objective.parse(sweep["objective"])
    runs, epochs = read_runs(folder), read_epochs(folder, lambda rows: for_ranking(rows, goal))
    rows = ranking(runs, epochs, sweep["objective"], sweep["mode"], scoring.score, scoring.repeats)
    return SweepRanking(sweep=sweep, folder=folder, runs=runs, epochs=epochs, scoring=scoring, rows=rows)
