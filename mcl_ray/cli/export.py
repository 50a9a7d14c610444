"""The front door out: `python -m mcl_ray.export RUN` leaves a trained network as others load it."""

from __future__ import annotations

from pathlib import Path

from mcl_ray.cli import app
from mcl_ray.config.environment import Environment
from mcl_ray.errors import CheckpointError, StoreError
from mcl_ray.object_store import Uri


def export(
    run: Uri | Path,
    /,
    *,
    peer: str = "best",
    out: Uri | Path | None = None,
    results: Uri | Path = Environment.results,
    data: Uri | Path = Environment.data,
) -> None:
    """Export a trained network: tensors, a program, a model card.

    Args:
        run: The folder of a run, its id below --results, or s3://bucket/prefix of it; of a sweep, for its best run.
        peer: Which network: a peer's number from 0, `best` for the one with the highest test top-1 (validation, where
            test has none), or `ensemble` for the mean of all peers' logits.
        out: A folder that is not there yet, or is empty; in the run's folder, export/<peer>, if not given.
        results: Folder that holds every run and sweep, or s3://bucket/prefix.
        data: The data set, for a run that was begun before its folder had an images.json.
    """
    from mcl_ray.results.lookup import named_run
    from mcl_ray.results.remote.pull import display_path, fetch, push
    from mcl_ray.results.store import read_epochs, read_spec
    from mcl_ray.transfer.member import choose

    if isinstance(out, Uri):
        raise StoreError(f"--out is a folder of this machine, but got {out}; without --out, a run's store has it too")
    folder = named_run(run, results)
    member = choose(peer, read_spec(folder), read_epochs(folder))
    target = folder / "export" / member.name if out is None else out
    _check_free(target)
    fetch(folder, checkpoints=True)
    if not any((folder / "checkpoints").glob("epoch-*.pt")):
        raise CheckpointError(f"a run with a checkpoint can be exported, but {display_path(folder)} has none")

    from mcl_ray.transfer.bundle import write_bundle

    files = write_bundle(folder, member, target, Environment(data=data))
    push(files)
    for file in files:
        app.stdout().print(f"wrote {display_path(file)}", soft_wrap=True)


def _check_free(target: Path) -> None:
    """Whether an export can be written, asked before any work is done for it.

    Raises:
        StoreError: there is something already, or nothing can be written.
    """
    from mcl_ray.results.atomic_io import check_writable
    from mcl_ray.results.remote.pull import display_path, holds_anything

    if holds_anything(target):
        raise StoreError(
            f"an export replaces nothing, but {display_path(target)} is there; remove it, or give another --out"
        )
    check_writable(target.parent, "the folder of an export")
