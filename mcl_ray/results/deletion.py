"""Deletion of runs and sweeps from a results folder."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

from mcl_ray.errors import StoreError
from mcl_ray.results.atomic_io import FolderLock
from mcl_ray.results.reader import RUN_FILE, SWEEP_FILE, is_run, is_sweep, run_folders


def check_deletable(folder: Path) -> None:
    """Check that a folder holds a whole sweep, or a run outside of sweeps.

    Raises:
        StoreError: it holds neither, or a run of a sweep, whose ranking and resumption need it.
    """
    sweep = folder.parent.parent
    if is_run(folder) and is_sweep(sweep):
        raise StoreError(f"a run of a sweep is deleted with its sweep, but {folder.name} is a run of {sweep.name}")
    if not is_run(folder) and not is_sweep(folder):
        raise StoreError(f"what is deleted must be a run or a sweep, but {folder} is neither")


def delete(folder: Path) -> None:
    """Delete a run, or a sweep with all its runs.

    The record goes first: what a deletion that is interrupted leaves is neither a run nor a sweep.

    Raises:
        StoreError: the folder cannot be deleted, or a process writes in it or in one of its runs.
    """
    check_deletable(folder)
    with ExitStack() as locks:
        locks.enter_context(FolderLock(folder))
        for run in run_folders(folder) if is_sweep(folder) else []:
            locks.enter_context(FolderLock(run))
        try:
            (folder / (SWEEP_FILE if is_sweep(folder) else RUN_FILE)).unlink()
            shutil.rmtree(folder)
        except OSError as error:
            raise StoreError(f"results must be writable, but {folder} was not deleted: {error.strerror}") from error
