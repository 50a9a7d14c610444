"""The command `export`: `python -m mcl_ray.export RUN`."""

from __future__ import annotations

from pathlib import Path

from mcl_ray.cli import app
from mcl_ray.config.environment import Environment
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
        peer: Which network: a peer's number from 0, `best` for the one with the highest validation top-1 (test, where
            there is no validation split), or `ensemble` for the mean of all peers' logits.
        out: A folder that is not there yet, or is empty; in the run's folder, export/<peer>, if not given.
        results: Folder that holds every run and sweep, or s3://bucket/prefix.
        data: The data set, for a run from a version that wrote no images.json.
    """
    from mcl_ray.results.remote.pull import display_path
    from mcl_ray.sdk.run import Run
    from mcl_ray.transfer.bundle import local_folder

    folder = local_folder(out)
    opened = Run.open(run, results=results)
    files = opened.export(peer, folder, data=data)
    app.stdout().print(f"{opened.run_id}, {opened.describe_peer(peer)}", soft_wrap=True, highlight=False)
    for file in files:
        app.stdout().print(f"wrote {display_path(file)}", soft_wrap=True)
