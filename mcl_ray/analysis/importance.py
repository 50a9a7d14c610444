"""Importances of searched parameters as data, and the ranking at one epoch that they are computed from.

They are computed in `searches.importance`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from mcl_ray.analysis.ranking import Ranked, ranking
from mcl_ray.config.scoring import MEAN, Score
from mcl_ray.results import queries

ENDED = ("finished", "stopped")
MIN_CONFIGURATIONS = 8
"""Fewest configurations that importances are computed from."""


@dataclass(frozen=True)
class Importances:
    """The importance of each parameter that is distinguishable from noise, or the reason why there is none."""

    values: Mapping[str, float] = field(default_factory=dict)
    """Parameter → share of the variance that it explains, from 0 to 1, the largest first; they need not add up to 1."""
    reason: str | None = None
    """The reason for an empty `values`."""
    floors: Mapping[str, float] = field(default_factory=dict)
    """Parameter → share that it would explain by chance at most, for every parameter that was tested."""
    epoch: int | None = None
    """Epoch whose figures were compared."""
    n: int = 0
    """Number of configurations that were compared."""

    @property
    def indistinct(self) -> list[str]:
        """Parameters that were tested and are not distinguishable from noise."""
        return [name for name in self.floors if name not in self.values]


def comparable(rows: Sequence[Ranked]) -> list[Ranked]:
    """Return the configurations whose figures can be compared: those that ended with a score, at one epoch.

    The baseline is outside of the space. If some were stopped early, only those that reached the last epoch count.
    """
    ended = _ended(rows)
    last = max((row.epochs_done for row in ended), default=0)
    return [row for row in ended if row.epochs_done == last]


def at_common_epoch(
    rows: Sequence[Ranked],
    runs: pa.Table,
    epochs: pa.Table,
    objective: str,
    mode: str,
    score: Score = MEAN,
    repeats: int = 1,
) -> list[Ranked]:
    """Return the configurations with figures that can be compared.

    They are those that trained to the end, if these are at least `MIN_CONFIGURATIONS` and half of all that ended;
    otherwise all that ended, ranked by their figures at the last epoch that every one of them reached.

    Args:
        rows: The ranking.
        runs: The table of runs.
        epochs: The table of epochs of these runs.
        objective: Key of the figure, `split/metric/member`.
        mode: `max` or `min`.
        score: How the figures of a configuration's seeds become its score.
        repeats: Planned seeds of a configuration.
    """
    finished = comparable(rows)
    ended = _ended(rows)
    if len(finished) >= max(MIN_CONFIGURATIONS, len(ended) / 2) or not ended:
        return finished
    first = min(row.epochs_done for row in ended)
    run_ids = [run_id for row in ended for run_id in row.run_ids]
    earlier = queries.until_epoch(queries.of_runs(epochs, run_ids), first)
    again = ranking(queries.of_runs(runs, run_ids), earlier, objective, mode, score, repeats)
    return [replace(row, epochs_done=first) for row in again]


def _ended(rows: Sequence[Ranked]) -> list[Ranked]:
    """Return the configurations that ended with a score, without those for comparison."""
    return [row for row in rows if row.score is not None and not row.is_compared and row.state in ENDED]
