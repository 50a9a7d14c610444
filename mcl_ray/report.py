"""The front door to what happened: `python -m mcl_ray.report PATH`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from mcl_ray import doors


def report(path: Path) -> None:
    """Print the ranking or the run's figures, and write plots and a page.

    Args:
        path: The folder of a run or of a sweep, or a whole results folder.
    """
    from mcl_ray.results.reading import run_folders, sweep_folders
    from mcl_ray.results.report import write_report
    from searches.importance import importances

    console = doors.stdout()
    sweeps = sweep_folders(path)
    for folder in sweeps:
        _tell_sweep(folder, console)
    for folder in run_folders(path):
        if not any(folder.is_relative_to(sweep) for sweep in sweeps):
            _tell_run(folder, console)
    for file in write_report(path, importances):
        console.print(f"wrote {file}", soft_wrap=True)


def _tell_sweep(folder: Path, console: Console) -> None:
    from mcl_ray.results.store import read_epochs, read_runs, read_sweeps
    from mcl_ray.results.tables import ranking
    from mcl_ray.results.text import ranking_table

    (sweep,) = read_sweeps(folder).to_pylist()
    rows = ranking(read_runs(folder), read_epochs(folder), sweep["objective"], sweep["mode"])
    console.print(f"{sweep['sweep_id']}: {sweep['state']}, {len(rows)} of {sweep['trials_planned']} trials")
    console.print(ranking_table(rows, sweep["objective"], sweep["mode"]))


def _tell_run(folder: Path, console: Console) -> None:
    from mcl_ray.results.store import read_epochs, read_runs
    from mcl_ray.results.tables import summary
    from mcl_ray.results.text import summary_table

    console.print(summary_table(summary(read_runs(folder), read_epochs(folder))))


if __name__ == "__main__":
    doors.door(report)
