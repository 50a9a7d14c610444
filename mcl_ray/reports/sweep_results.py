"""The result of a sweep in a terminal: ranking, front, test scores, published table and files, with rich."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev

from rich.console import RenderableType

from mcl_ray.analysis.conclusion import SweepConclusion
from mcl_ray.reports.comparison_table import comparison_view
from mcl_ray.reports.improvement import improvement_line
from mcl_ray.reports.terminal import front_table, ranking_table
from mcl_ray.results.queries import ACCURACIES
from mcl_ray.results.remote.pull import display_path
from mcl_ray.results.schema import EpochRow

NAMES_SHOWN = 20
"""Number of images that are named, of those that do not decode; all are in `unreadable.json` of each run."""


def conclusion_views(conclusion: SweepConclusion) -> Iterator[RenderableType]:
    """Yield the parts of a sweep's result for a terminal; a string is one line, however long."""
    objective, scoring, rows = conclusion.objective, conclusion.scoring, conclusion.ranking
    yield ranking_table(rows, objective, "max", scoring)
    if conclusion.improvement is not None:
        yield improvement_line(conclusion.improvement, objective)
    if conclusion.unreadable:
        yield unreadable_line(conclusion.unreadable)
    if scoring.costs:
        yield front_table(rows, objective, "max", scoring)
    if conclusion.test_scores and conclusion.best is not None:
        yield f"best: {', '.join(conclusion.best.run_ids)}"
        yield f"test top-1, read once, for the best alone: {_test_figures(conclusion.test_scores)}"
    if conclusion.comparison is not None:
        yield comparison_view(conclusion.comparison, conclusion.networks)
    if conclusion.best_spec is not None:
        yield f"best spec: python -m mcl_ray.train {_relative_to_cwd(conclusion.best_spec)}"
    if conclusion.files:
        yield f"results:   {shown_path(conclusion.folder)} (Parquet)"
    for file in conclusion.files:
        yield f"report:    {shown_path(file)}"


def unreadable_line(names: Sequence[str]) -> str:
    """Return which images were skipped, as they do not decode."""
    shown = "; ".join([*names[:NAMES_SHOWN], *(["…"] if len(names) > NAMES_SHOWN else [])])
    return f"images skipped, as they do not decode: {len(names)}: {shown}"


def shown_path(path: Path) -> str:
    """Return the path in its store, if it is in one, else the path, relative to the current folder if below it."""
    location = display_path(path)
    return str(_relative_to_cwd(path)) if location == str(path) else location


def _relative_to_cwd(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _test_figures(scores: Sequence[Sequence[EpochRow]]) -> str:
    """Return each member's top-1, with its spread over several seeds."""
    metric = next(metric for metric in ACCURACIES if metric in {row.metric for row in scores[0]})
    members = [row.member for row in scores[0] if row.metric == metric]
    figures = []
    for member in members:
        values = [row.value for rows in scores for row in rows if (row.metric, row.member) == (metric, member)]
        spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
        figures.append(f"{member} {fmean(values):.2f}{spread} %")
    return "  ".join(figures) + (f"  (n = {len(scores)})" if len(scores) > 1 else "")
