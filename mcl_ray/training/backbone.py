"""The frozen networks of linear classification: from a run, one of its checkpoints, or a checkpoint of another code.

A spec identifies the networks by the checksum of their file; an environment has the path of the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mcl_ray.cohort import Cohort
from mcl_ray.config import recipes
from mcl_ray.config.overrides import validate
from mcl_ray.config.spec import SPEC_VERSION, RunSpec
from mcl_ray.encoders import checkpoint_in, read_encoders, shards_of
from mcl_ray.errors import CheckpointError
from mcl_ray.interop import load_published
from mcl_ray.results.reader import SPEC_FILE, is_sweep, read_runs
from mcl_ray.results.remote.pull import display_path, fetch
from mcl_ray.training.checkpoint import CheckpointFolder, read_checkpoint


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """File of trained networks."""

    file: Path
    """The checkpoint."""
    checksum: str
    """Checksum of the file, with the shards that it may name, `sha256:…`."""
    pretraining: RunSpec | None
    """Spec of the run that wrote the checkpoint; None if it is unknown."""
    num_peers: int | None
    """Number of networks; None if only the spec determines it."""


def find_backbone(source: Path) -> Backbone:
    """Find the networks at `source`: a run's folder, for its newest checkpoint, or a checkpoint's file.

    The folder of a checkpoint of safetensors, in one file or in shards with an index, stands for it.

    Raises:
        CheckpointError: there is no checkpoint, it is damaged, or its format is unknown.
    """
    if source.is_dir():
        newest = CheckpointFolder(source / "checkpoints").latest()
        found = checkpoint_in(source) if newest is None else newest[1]
        if found is None:
            raise CheckpointError(
                f"--from requires a run that has a checkpoint, or a checkpoint, but {source} has none"
            )
        source = found
    checksum = _checksum(source)
    if not _is_ours(source):
        return Backbone(file=source, checksum=checksum, pretraining=None, num_peers=len(read_encoders(source)))
    read_checkpoint(source)  # raises an error if it is damaged
    pretraining = _spec_of_run(source)
    if pretraining is not None and not pretraining.trains_networks:
        raise CheckpointError(f"--from requires a run that trains networks, but {source} is of linear classification")
    return Backbone(file=source, checksum=checksum, pretraining=pretraining, num_peers=None)


def checkpoint_at(source: Path, pretraining: RunSpec | None) -> Path:
    """Return the checkpoint at `source`; for a sweep's folder, the newest checkpoint of its run with this spec.

    Args:
        source: a checkpoint, or the folder of a sweep; fetched first if it is in a remote store.
        pretraining: spec of the run in the sweep.

    Raises:
        CheckpointError: no run of the sweep has this spec, or it has no checkpoint.
    """
    if not source.is_file():
        fetch(source)
    if not is_sweep(source):
        return source
    runs = {row["run_id"]: RunSpec.model_validate_json(row["spec"]) for row in read_runs(source).to_pylist()}
    for run in (source / "runs" / run_id for run_id, spec in runs.items() if spec == pretraining):
        fetch(run, checkpoints=True)
        found = CheckpointFolder(run / "checkpoints").latest()
        if found is not None:
            return found[1]
    raise CheckpointError(
        f"linear classification requires a checkpoint of its pretraining run in {display_path(source)}, but there is "
        "none"
    )


def load_backbone(cohort: Cohort, file: Path, checksum: str) -> None:
    """Copy the networks in `file` into a cohort without classifiers and heads.

    Args:
        cohort: the cohort, which is changed in place.
        file: a checkpoint of this program, or one of another code.
        checksum: the expected checksum, `sha256:…`.

    Raises:
        CheckpointError: the file has another checksum or holds other networks; nothing has been copied in this case.
    """
    if _checksum(file) != checksum:
        raise CheckpointError(f"the spec's linear.backbone is {checksum}, but {file} is {_checksum(file)}")
    if not _is_ours(file):
        load_published(
            cohort,
            {
                f"module_list.{peer}.{name}": tensor
                for peer, tensors in read_encoders(file).items()
                for name, tensor in tensors.items()
            },
        )
        return
    checkpoint, expected = read_checkpoint(file), cohort.state_dict()
    tensors = {name: tensor for name, tensor in checkpoint.cohort.items() if not _is_beyond_features(name)}
    if _shapes(expected) != _shapes(tensors):
        stem = "one stem" if cohort.shares_stem else "own stems"
        raise CheckpointError(
            f"the networks must be those of the spec's cohort, {' + '.join(cohort.names)} ({stem}), but {file} holds "
            f"{checkpoint.architecture}"
        )
    cohort.load_state_dict(tensors)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _is_beyond_features(name: str) -> bool:
    return name.startswith(("classifiers.", "heads."))


def _is_ours(file: Path) -> bool:
    return file.name.startswith("epoch-") and file.suffix == ".pt"


def _checksum(file: Path) -> str:
    """Return the checksum of a file; that of an index covers its shards.

    Raises:
        CheckpointError: one cannot be read.
    """
    own, shards = _checksum_of_file(file), shards_of(file)
    if not shards:
        return own
    lines = [own, *(f"{shard.name} {_checksum_of_file(shard)}" for shard in shards)]
    return f"sha256:{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()}"


def _checksum_of_file(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {file}: {error.strerror}") from error


def _spec_of_run(checkpoint: Path) -> RunSpec | None:
    """Read the spec of the run whose folder has this checkpoint; None if it is not in a run's folder."""
    file = checkpoint.absolute().parents[1] / SPEC_FILE
    return validate(RunSpec, recipes.read_yaml(file, SPEC_VERSION)) if file.exists() else None
