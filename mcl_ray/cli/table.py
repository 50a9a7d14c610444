"""The front door to the published tables with ours beside them: `python -m mcl_ray.table cifar RESULTS`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mcl_ray.cli import app
from mcl_ray.errors import SpecError, StoreError, unknown
from mcl_ray.object_store import Uri


def table(
    name: str,
    /,
    *results: Annotated[
        Uri | Path, Parameter(help="Folders of results, of sweeps or of runs; or s3://bucket/prefix of them.")
    ],
) -> None:
    """Print a published table, and beside it what the runs in results folders reached.

    Args:
        name: cifar, imagenet or moco.
    """
    from mcl_ray.analysis.published import TABLES

    if name not in TABLES:
        raise SpecError(unknown("table", name, TABLES))
    if not results:
        raise SpecError("a table is of one results folder or more, but none was given")
    from mcl_ray.analysis.comparison import Outcome, compare, outcomes
    from mcl_ray.reports.comparison_table import comparison_view
    from mcl_ray.results.remote.pull import display_path, pull_replica

    found: list[Outcome] = []
    for path in results:
        folder = pull_replica(path) if isinstance(path, Uri) else path
        runs = outcomes(folder)
        if not runs:
            raise StoreError(f"a table needs runs, but {display_path(folder)} holds none yet")
        found += runs
    app.stdout().print(comparison_view(compare(TABLES[name], found)))
