"""Comparison of runs with a published table: the cell that a run belongs to, and the mean over its seeds.

Only finished runs in the published setting are compared with a published figure. Others are grouped by the settings
that differ, and are not compared. The view for a terminal is in `mcl_ray.reports.comparison_table`.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mcl_ray.analysis.published import Column, Figure, PublishedTable, column_of
from mcl_ray.analysis.published_setting import SETTINGS, deviations, has_effect
from mcl_ray.analysis.workers import pretraining_workers, workers_nearby
from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import StoreError
from mcl_ray.object_store import Uri
from mcl_ray.results import queries
from mcl_ray.results.provenance import workers_of
from mcl_ray.results.queries import BEST_PEER_TEST
from mcl_ray.results.reader import read_epochs, read_runs
from mcl_ray.results.remote.pull import display_path, pull_replica


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of a run, for a comparison with published tables."""

    spec: RunSpec
    state: str
    started_at: datetime
    figure: float | None
    """best_peer_best_epoch in %: the best peer's test top-1 at its best epoch; None if test was never scored."""
    workers: int = 1
    """Workers that shared its batches."""
    pretraining_workers: int | None = None
    """Those of its pretraining, or `UNKNOWN_WORKERS`; None without one."""


def outcomes(folder: Path) -> list[Outcome]:
    """Return the outcome of every run in a run folder, a sweep folder or a results folder.

    The record of a pretraining is looked for in the results folder around it.

    Raises:
        StoreError: `folder` is none of the three, or holds damaged files.
    """
    rows = [(row, RunSpec.model_validate_json(row["spec"])) for row in read_runs(folder).to_pylist()]
    known = workers_nearby(folder) if any(spec.pretraining for _, spec in rows) else {}
    curves = queries.points(read_epochs(folder), BEST_PEER_TEST)
    peaks = {run_id: queries.highest(curve) for run_id, curve in curves.items()}
    return [
        Outcome(
            spec=spec,
            state=row["state"],
            started_at=row["started_at"],
            figure=peak.value if (peak := peaks.get(row["run_id"])) else None,
            workers=workers_of(row["hardware"]),
            pretraining_workers=pretraining_workers(spec, known),
        )
        for row, spec in rows
    ]


@dataclass(frozen=True)
class Seeds:
    """The figures of one cell, one for each seed."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.values)

    @property
    def figure(self) -> Figure:
        """Mean and sample standard deviation; the latter is None for one seed."""
        return statistics.fmean(self.values), statistics.stdev(self.values) if self.n > 1 else None


Cell = tuple[str, Column]
"""Network and column."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """Runs that differ from the published setting in the same settings, as far as these have an effect on them."""

    deviations: tuple[str, ...]
    """The settings that differ in one of the runs at least."""
    cells: Mapping[Cell, Seeds]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A published table, and the runs compared with it."""

    table: PublishedTable
    reproduced: Mapping[Cell, Seeds]
    """Cell → runs in the published setting."""
    others: tuple[Section, ...]
    """Runs in other settings, the fewest differences first."""
    left_out: Mapping[str, int]
    """Reason → number of runs that are in no cell for it."""

    def difference(self, cell: Cell) -> float | None:
        """Return our mean minus the published one, in percentage points; None if one of them is missing."""
        network, column = cell
        published = self.table.figures.get(network, {}).get(column)
        if published is None or cell not in self.reproduced:
            return None
        return self.reproduced[cell].figure[0] - published[0]


def compare(table: PublishedTable, runs: Iterable[Outcome]) -> Comparison:
    """Compare runs with a published table.

    Of several runs of the same experiment with the same seed, the last one counts. A run that is given twice, as
    folders may contain each other, counts once.
    """
    left_out: Counter[str] = Counter()
    found: dict[tuple[str, ...], _Seeds] = {(): {}}
    specs: dict[tuple[str, ...], list[RunSpec]] = {}
    for run in sorted(dict.fromkeys(runs), key=lambda run: run.started_at):
        column = column_of(run.spec)
        reason = _reason_left_out(table, run, column)
        if reason is not None or column is None or run.figure is None:
            left_out[reason or ""] += 1
            continue
        different = deviations(run.spec, run.workers, run.pretraining_workers)
        specs.setdefault(different, []).append(run.spec)
        seeds = found.setdefault(different, {}).setdefault((run.spec.cohort.peers[0], column), {})
        left_out["replaced by a later run of the same seed"] += run.spec.seed in seeds
        seeds[run.spec.seed] = run.figure
    sections = [
        Section(deviations=different, cells={cell: Seeds(tuple(seeds.values())) for cell, seeds in cells.items()})
        for different, cells in _joined(found, specs).items()
    ]
    first, *others = sorted(sections, key=lambda section: (len(section.deviations), section.deviations))
    return Comparison(table=table, reproduced=first.cells, others=tuple(others), left_out=+left_out)


_Seeds = dict[Cell, dict[int, float]]
"""Cell → seed → figure."""


def _joined(
    found: Mapping[tuple[str, ...], _Seeds], specs: Mapping[tuple[str, ...], list[RunSpec]]
) -> dict[tuple[str, ...], _Seeds]:
    """Return the groups of runs by settings, each beside the runs on which its other settings have no effect.

    So the baseline of a table with `cohort.embedding_dim=64`, which has no embeddings, is in one section with its
    cohorts. Runs in the published setting stay by themselves.
    """
    joined: dict[tuple[str, ...], _Seeds] = {}
    for fewer, cells in sorted(found.items(), key=lambda group: -len(group[0])):
        hosts = [
            more
            for more, others in joined.items()
            if fewer and set(fewer) < set(more) and not cells.keys() & others.keys()
            if not any(has_effect(one, spec) for spec in specs[fewer] for one in set(more) - set(fewer))
        ]
        for more in hosts:
            joined[more] |= cells
        if not hosts:
            joined[fewer] = dict(cells)
    return joined


def compare_results(table: PublishedTable, results: Iterable[Uri | Path]) -> Comparison:
    """Compare all runs in results folders, or in remote stores, with a published table.

    Args:
        table: One of `mcl_ray.analysis.published.TABLES`.
        results: Folders of runs, of sweeps or of results, or their URIs, which are fetched.

    Raises:
        StoreError: one of them holds no runs, or cannot be read.
    """
    found: list[Outcome] = []
    for path in results:
        folder = pull_replica(path) if isinstance(path, Uri) else path
        runs = outcomes(folder)
        if not runs:
            raise StoreError(f"a table needs runs, but {display_path(folder)} holds none yet")
        found += runs
    return compare(table, found)


def _reason_left_out(table: PublishedTable, run: Outcome, column: Column | None) -> str | None:
    if run.spec.method != table.method or run.spec.method not in SETTINGS:
        return "of another method"
    if column not in table.columns:
        return "of a cohort or losses without a column"
    if run.state != "finished":
        return "not finished"
    return "never scored on the test images" if run.figure is None else None
