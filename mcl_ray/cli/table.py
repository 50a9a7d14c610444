"""The command `table`: `python -m mcl_ray.table cifar RESULTS`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mcl_ray.cli import app
from mcl_ray.errors import SpecError, unknown
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
        raise SpecError("a table needs one results folder or more, but got none")
    from mcl_ray.analysis.comparison import compare_results
    from mcl_ray.reports.comparison_table import comparison_view

    app.stdout().print(comparison_view(compare_results(TABLES[name], results)))
