"""A published table beside our runs: which run is of which cell, and what its seeds amount to.

Only runs that came to their end as published are set beside a published figure. Others are told apart by what differs,
and compared with nothing. How it looks in a terminal is `comparison_text.py`.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mcl_ray.analysis.published import Column, Figure, PublishedTable, column_of
from mcl_ray.analysis.published_setting import SETTINGS, deviations
from mcl_ray.config.spec import RunSpec
from mcl_ray.results import queries
from mcl_ray.results.queries import BEST_PEER_TEST
from mcl_ray.results.reader import read_epochs, read_runs


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A run, as far as a table asks."""

    spec: RunSpec
    state: str
    started_at: datetime
    figure: float | None
    """best_peer_best_epoch in %: the best peer's test top-1 at its best epoch; None where test was never scored."""


def outcomes(folder: Path) -> list[Outcome]:
    """Every run in a run folder, a sweep folder or a root.

    Raises:
        StoreError: `folder` is none of the three, or holds damaged files.
    """
    curves = queries.points(read_epochs(folder), BEST_PEER_TEST)
    peaks = {run_id: queries.highest(curve) for run_id, curve in curves.items()}
    return [
        Outcome(
            spec=RunSpec.model_validate_json(row["spec"]),
            state=row["state"],
            started_at=row["started_at"],
            figure=peak.value if (peak := peaks.get(row["run_id"])) else None,
        )
        for row in read_runs(folder).to_pylist()
    ]


@dataclass(frozen=True)
class Seeds:
    """The figures of one cell, one a seed."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """How many there are."""
        return len(self.values)

    @property
    def figure(self) -> Figure:
        """Mean, and sample standard deviation; None for one seed."""
        return statistics.fmean(self.values), statistics.stdev(self.values) if self.n > 1 else None


Cell = tuple[str, Column]
"""Network and column."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """Runs that differ from the published setting in the same way."""

    deviations: tuple[str, ...]
    cells: Mapping[Cell, Seeds]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A published table, and what there is of it."""

    table: PublishedTable
    reproduced: Mapping[Cell, Seeds]
    """As published in everything that the recipes fix."""
    others: tuple[Section, ...]
    """Those that differ in the fewest settings first."""
    left_out: Mapping[str, int]
    """Why runs are in no cell → how many."""

    def difference(self, cell: Cell) -> float | None:
        """Our mean less the published one, in percentage points; None where one of them is missing."""
        network, column = cell
        published = self.table.figures.get(network, {}).get(column)
        if published is None or cell not in self.reproduced:
            return None
        return self.reproduced[cell].figure[0] - published[0]


def compare(table: PublishedTable, runs: Iterable[Outcome]) -> Comparison:
    """Set runs beside a table; of the same experiment with the same seed, the last one counts.

    A run that is there twice, as folders may lie within each other, is one run.
    """
    left_out: Counter[str] = Counter()
    found: dict[tuple[str, ...], dict[Cell, dict[int, float]]] = {(): {}}
    for run in sorted(dict.fromkeys(runs), key=lambda run: run.started_at):
        column = column_of(run.spec)
        reason = _why_left_out(table, run, column)
        if reason is not None or column is None or run.figure is None:
            left_out[reason or ""] += 1
            continue
        cells = found.setdefault(deviations(run.spec), {})
        seeds = cells.setdefault((run.spec.cohort.peers[0], column), {})
        left_out["replaced by a later run of the same seed"] += run.spec.seed in seeds
        seeds[run.spec.seed] = run.figure
    sections = [
        Section(deviations=different, cells={cell: Seeds(tuple(seeds.values())) for cell, seeds in cells.items()})
        for different, cells in found.items()
    ]
    first, *others = sorted(sections, key=lambda section: (len(section.deviations), section.deviations))
    return Comparison(table=table, reproduced=first.cells, others=tuple(others), left_out=+left_out)


def _why_left_out(table: PublishedTable, run: Outcome, column: Column | None) -> str | None:
    if run.spec.method != table.method or run.spec.method not in SETTINGS:
        return "of another method"
    if column not in table.columns:
        return "of a cohort or losses without a column"
    if run.state != "finished":
        return "not finished"
    return "never scored on the test images" if run.figure is None else None
