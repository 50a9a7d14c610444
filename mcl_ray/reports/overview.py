"""The overview of results for a terminal: rankings of sweeps, and summaries of runs outside of sweeps.

The same results as files are in `build.py`.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from mcl_ray.analysis.ranking import summary
from mcl_ray.analysis.sweep_ranking import SweepRanking, rank_sweep
from mcl_ray.errors import StoreError
from mcl_ray.reports.improvement import improvement_line
from mcl_ray.reports.terminal import describe_published, front_table, ranking_table, summary_table
from mcl_ray.results.reader import read_epochs, read_runs, run_folders, sweep_folders
from mcl_ray.results.remote.pull import display_path


def overview(path: Path, ranked: SweepRanking | None = None) -> list[RenderableType]:
    """Return what rich prints of a run, of a sweep, or of every sweep and single run in a results folder.

    Args:
        path: Folder of a run or of a sweep, or a results folder.
        ranked: Ranking of the sweep in the folder, if that was read before.

    Raises:
        StoreError: `path` holds no results, or damaged ones.
    """
    if ranked is not None:
        return sweep_overview(path, ranked)
    sweeps = sweep_folders(path)
    single_runs = [run for run in run_folders(path) if not any(run.is_relative_to(sweep) for sweep in sweeps)]
    if not (sweeps or single_runs):
        raise StoreError(f"a report needs a run or a sweep, but {display_path(path)} holds none yet")
    return [part for folder in sweeps for part in sweep_overview(folder)] + [run_overview(run) for run in single_runs]


def sweep_overview(folder: Path, ranked: SweepRanking | None = None) -> list[RenderableType]:
    """Return the state of a sweep, its best configuration against the published point, its ranking and Pareto front.

    Last comes the published figure of the best configuration, if there is one.

    Raises:
        StoreError: `folder` holds no sweep, or a damaged one.
    """
    ranked = ranked or rank_sweep(folder)
    rows, objective, mode, scoring = ranked.rows, ranked.objective, ranked.mode, ranked.scoring
    tried, planned = sum(not row.is_compared for row in rows), ranked.sweep["trials_planned"]
    state = f"{ranked.sweep['sweep_id']}: {ranked.sweep['state']}, {tried} of {planned} trials"
    front = [front_table(rows, objective, mode, scoring)] if scoring.costs else []
    found = ranked.improvement
    result = [] if found is None else [Text(improvement_line(found, objective))]
    return [state, *result, ranking_table(rows, objective, mode, scoring), *front, *_published(ranked)]


def run_overview(folder: Path) -> RenderableType:
    """Return the summary of one run.

    Raises:
        StoreError: `folder` holds no run, or a damaged one.
    """
    return summary_table(summary(read_runs(folder), read_epochs(folder)))


def _published(ranked: SweepRanking) -> list[str]:
    """Return the best configuration's figure and the published one, if there is a published one."""
    if ranked.best is None:
        return []
    found = summary(ranked.runs, ranked.epochs, ranked.best.run_ids[0])
    if found.published is None:
        return []
    return [f"best configuration: {name}: {text}" for name, text in describe_published(found).items()]
