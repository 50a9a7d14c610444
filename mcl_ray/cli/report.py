"""The command `report`: `python -m mcl_ray.report PATH`."""

from __future__ import annotations

from pathlib import Path

from mcl_ray.cli import app
from mcl_ray.object_store import Uri


def report(path: Uri | Path, /, *, server: str | None = None, out: Path = Path("report.html")) -> None:
    """Print the ranking or the run's figures, and write plots and a page.

    Args:
        path: The folder of a run or of a sweep, or a whole results folder; or s3://bucket/prefix of either. With
            --server, the id of a job.
        server: Address of a service, whose report of a job is saved.
        out: File that the report of a service is saved in.
    """
    if server is not None:
        from mcl_ray.cli.jobs import save_report

        save_report(server, str(path), out)
        return
    from mcl_ray.analysis.sweep_ranking import rank_sweep
    from mcl_ray.reports.overview import overview
    from mcl_ray.results.reader import is_sweep
    from mcl_ray.results.remote.pull import display_path, pull_replica, push

    folder = pull_replica(path) if isinstance(path, Uri) else path
    ranked = rank_sweep(folder) if is_sweep(folder) else None  # read once: a sweep may have very many runs
    parts = overview(folder, ranked)

    from mcl_ray.reports.build import write_report
    from searches.importance import importances

    console = app.stdout()
    for part in parts:
        console.print(part)
    files = write_report(folder, importances, ranked)
    push(files)
    for file in files:
        console.print(f"wrote {display_path(file)}", soft_wrap=True)
