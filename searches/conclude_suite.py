"""The end of a suite: its rows with what failed, the published table with ours in it, and the report."""

from __future__ import annotations

from rich.console import Console

from mcl_ray.analysis.comparison import compare, outcomes
from mcl_ray.analysis.published import TABLES
from mcl_ray.errors import TrainingError
from mcl_ray.reports.build import write_report
from mcl_ray.reports.comparison_table import comparison_view
from mcl_ray.reports.terminal import ranking_table
from mcl_ray.results.remote.pull import display_path, fetch, push
from mcl_ray.results.store import SweepWriter
from searches.conclude import found_at, ranked, tell_unreadable
from searches.importance import importances
from searches.spec.suite import SuiteSpec


def conclude_suite(suite: SuiteSpec, writer: SweepWriter, console: Console) -> None:
    """Print what every row reached, and write the report.

    Raises:
        TrainingError: no row has a figure.
    """
    fetch(writer.folder)
    rows = ranked(suite, writer.folder)
    console.print(ranking_table(rows, suite.objective, "max", suite.scoring))
    tell_unreadable(writer.folder, console)
    if not any(row.score is not None for row in rows):
        reasons = {row.reason for row in rows if row.reason}
        raise TrainingError(f"no row of {display_path(writer.folder)} has a figure: {'; '.join(sorted(reasons))}")
    if suite.table is not None and suite.then is None:
        comparison = compare(TABLES[suite.table], outcomes(writer.folder))
        console.print(comparison_view(comparison, suite.networks))
    console.print(f"results:   {found_at(writer.folder)} (Parquet)", soft_wrap=True)
    writer.finish("finished")  # so that the page says so
    files = write_report(writer.folder, importances)
    push(files)
    for file in files:
        console.print(f"report:    {found_at(file)}", soft_wrap=True)
