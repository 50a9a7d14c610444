"""The front door to what happened: `python -m mcl_ray.report PATH`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import RenderableType

from mcl_ray.cli import app
from mcl_ray.errors import StoreError
from mcl_ray.object_store import Uri

if TYPE_CHECKING:
    from mcl_ray.analysis.ranking import Ranked


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
    from mcl_ray.results.reader import run_folders, sweep_folders
    from mcl_ray.results.remote.pull import display_path, pull_replica, push

    if isinstance(path, Uri):
        path = pull_replica(path)
    sweeps = sweep_folders(path)
    alone = [run for run in run_folders(path) if not any(run.is_relative_to(sweep) for sweep in sweeps)]
    if not (sweeps or alone):
        raise StoreError(f"a report needs a run or a sweep, but {display_path(path)} holds none yet")
    told = [part for folder in sweeps for part in _sweep(folder)] + [_run(folder) for folder in alone]

    from mcl_ray.reports.build import write_report
    from searches.importance import importances

    console = app.stdout()
    for part in told:
        console.print(part)
    files = write_report(path, importances)
    push(files)
    for file in files:
        console.print(f"wrote {display_path(file)}", soft_wrap=True)


def _sweep(folder: Path) -> list[RenderableType]:
    from mcl_ray.analysis.ranking import ranking
    from mcl_ray.config.scoring import Scoring
    from mcl_ray.reports.terminal import front_table, ranking_table
    from mcl_ray.results.store import read_epochs, read_runs, read_sweeps

    (sweep,) = read_sweeps(folder).to_pylist()
    objective, mode, scoring = sweep["objective"], sweep["mode"], Scoring.parse(sweep["spec"])
    rows = ranking(read_runs(folder), read_epochs(folder), objective, mode, scoring.score, scoring.repeats)
    state = f"{sweep['sweep_id']}: {sweep['state']}, {len(rows)} of {sweep['trials_planned']} trials"
    front = [front_table(rows, objective, mode, scoring)] if scoring.costs else []
    return [state, ranking_table(rows, objective, mode, scoring), *front, *_published(folder, rows)]


def _published(folder: Path, rows: Sequence[Ranked]) -> list[str]:
    """The published figure beside the best configuration's, where there is one."""
    from mcl_ray.analysis.ranking import summary
    from mcl_ray.reports.terminal import published_facts
    from mcl_ray.results.store import read_epochs, read_runs

    if not rows or rows[0].score is None:
        return []
    best = summary(read_runs(folder), read_epochs(folder), rows[0].run_ids[0])
    if best.published is None:
        return []
    return [f"best configuration: {name}: {told}" for name, told in published_facts(best).items()]


def _run(folder: Path) -> RenderableType:
    from mcl_ray.analysis.ranking import summary
    from mcl_ray.reports.terminal import summary_table
    from mcl_ray.results.store import read_epochs, read_runs

    return summary_table(summary(read_runs(folder), read_epochs(folder)))
