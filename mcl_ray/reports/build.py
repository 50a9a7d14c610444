"""Building of reports: figures and a page, written into the folder of each run and sweep."""

from __future__ import annotations

from pathlib import Path

from mcl_ray.analysis.sweep_ranking import SweepRanking
from mcl_ray.reports.results_page import write_index
from mcl_ray.reports.run_report import run_report
from mcl_ray.reports.sweep_report import ImportanceSource, sweep_report
from mcl_ray.results.reader import REPORT_FOLDER, is_run, is_sweep, run_folders, sweep_folders


def write_report(path: Path, importances: ImportanceSource = None, ranked: SweepRanking | None = None) -> list[Path]:
    """Write `report/` into a run or a sweep; for a results folder, into every sweep and every run outside of sweeps.

    A results folder also gets a page of all of them, `report/index.html`.

    Nothing is uploaded: for a folder in a replica, the caller pushes the files.

    Args:
        path: Folder of a run or of a sweep, or a results folder.
        importances: Importances of a sweep's parameters, or a function that computes them.
        ranked: Ranking of the sweep in the folder, if that was read before.

    Returns:
        The files written.

    Raises:
        StoreError: `path` holds no results, damaged ones, or cannot be written.
    """
    if is_run(path):
        return run_report(path).write(path / REPORT_FOLDER)
    if is_sweep(path):
        return sweep_report(path, importances, ranked).write(path / REPORT_FOLDER)
    single_runs = [folder for folder in run_folders(path) if folder.parent == path / "runs"]
    folders = [*sweep_folders(path), *single_runs]
    files = [file for folder in folders for file in write_report(folder, importances)]
    return [*files, write_index(path)]
