"""Export of a run: a folder with the tensors, the program, the configuration and the model card of a trained member.

Imports torch only after the arguments have been checked. The contents of the files are made in `contents.py`.
"""

from __future__ import annotations

from pathlib import Path

from mcl_ray.config.environment import Environment
from mcl_ray.config.plugins import import_plugins
from mcl_ray.errors import CheckpointError, StoreError
from mcl_ray.object_store import Uri
from mcl_ray.results.atomic_io import check_writable, write_folder
from mcl_ray.results.reader import read_epochs, read_spec
from mcl_ray.results.remote.pull import display_path, fetch, holds_anything, push
from mcl_ray.transfer.member import choose


def export_run(
    run_folder: Path, peer: str = "best", out: Uri | Path | None = None, environment: Environment | None = None
) -> list[Path]:
    """Export a member of a run, as its newest checkpoint has it.

    Args:
        run_folder: Folder of the run; `mcl_ray.results.lookup.named_run` finds it by name.
        peer: A peer's number from 0; `best` for the peer with the highest validation top-1 (test, if there is no
            validation split); or `ensemble` for the mean of all peers' logits.
        out: Local folder to create, missing or empty; `export/<member>` in the run's folder if not given, which is
            uploaded if the run is in a remote store.
        environment: Where the data set is, for an older run whose folder has no `images.json`.

    Returns:
        The files: `model.safetensors`, `program.pt2`, `config.json` and `README.md`.

    Raises:
        SpecError: the run has no such peer, or no such ensemble, or a plugin of its own cannot be imported.
        StoreError: no figure says which peer is best, `out` is a URI, is not empty, or cannot be written.
        CheckpointError: the run has no checkpoint, or none that is undamaged and belongs to it.
    """
    spec = read_spec(run_folder)
    import_plugins(spec.plugins)
    out, member = local_folder(out), choose(peer, spec, read_epochs(run_folder))
    folder = run_folder / "export" / member.name if out is None else out
    _check_free(folder)
    fetch(run_folder, checkpoints=True)
    if not any((run_folder / "checkpoints").glob("epoch-*.pt")):
        raise CheckpointError(f"a run with a checkpoint can be exported, but {display_path(run_folder)} has none")

    from mcl_ray.transfer.contents import bundle_contents

    files = write_folder(folder, bundle_contents(run_folder, member, environment or Environment()))
    push(files)
    return files


def local_folder(out: Uri | Path | None) -> Path | None:
    """Return the folder of an export, which must be local.

    Raises:
        StoreError: `out` is a URI.
    """
    if isinstance(out, Uri):
        raise StoreError(
            f"`--out` must be a local folder, but got {out}; without `--out`, the export of a run in a store is "
            "uploaded to it"
        )
    return out


def _check_free(folder: Path) -> None:
    """Check that an export can be written, before any work is done.

    Raises:
        StoreError: `folder` is not empty, or cannot be written.
    """
    if holds_anything(folder):
        raise StoreError(
            f"an export replaces nothing, but {display_path(folder)} is there; remove it, or give another --out"
        )
    check_writable(folder.parent, "the folder of an export")
