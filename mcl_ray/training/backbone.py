"""The networks that linear classification freezes: from a run, a checkpoint of ours, or a published one of MoCo's kind.

A spec names them by their file's checksum, an environment says where the file is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mcl_ray.cohort import Cohort
from mcl_ray.config import recipes
from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import CheckpointError
from mcl_ray.interop import load_published
from mcl_ray.results.reader import SPEC_FILE, is_sweep, read_runs
from mcl_ray.results.remote.pull import display_path, fetch
from mcl_ray.training.checkpoint import CheckpointFolder, read_checkpoint

_QUERY_ENCODER = re.compile(r"(?:module\.)?encoder_q(?:_(\d+))?\.(.+)")
"""How MoCo's code (`encoder_q.conv1.weight`) and that of MCL (`encoder_q_0.conv1.weight`) name what is trained."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """Where networks are, and what is known of them."""

    file: Path
    checksum: str
    """`sha256:…` of the file."""
    pretraining: RunSpec | None
    """The run whose checkpoint it is, if that is known."""
    num_peers: int | None
    """How many networks there are, if the file says so by itself."""


def find_backbone(source: Path) -> Backbone:
    """The networks at `source`: a run's folder, whose newest checkpoint is meant, or a checkpoint's file.

    Raises:
        CheckpointError: there is none, or it is damaged, or of no kind that can be read.
    """
    if source.is_dir():
        found = CheckpointFolder(source / "checkpoints").latest()
        if found is None:
            raise CheckpointError(f"--from names a run that has a checkpoint, or a checkpoint, but {source} has none")
        source = found[1]
    checksum = _checksum(source)
    if not _is_ours(source):
        return Backbone(file=source, checksum=checksum, pretraining=None, num_peers=len(_query_encoders(source)))
    read_checkpoint(source)  # it may be damaged
    pretraining = _spec_beside(source)
    if pretraining is not None and pretraining.method == "linear":
        raise CheckpointError(f"--from names what networks learned from, but {source} is of linear classification")
    return Backbone(file=source, checksum=checksum, pretraining=pretraining, num_peers=None)


def checkpoint_at(source: Path, pretraining: RunSpec | None) -> Path:
    """The checkpoint that `source` is; of a sweep's folder, the newest one of its run of `pretraining`.

    Raises:
        CheckpointError: no run of the sweep follows that spec, or it has none.
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
        f"what linear classification freezes is a run of {display_path(source)}, but it has no checkpoint"
    )


def load_backbone(cohort: Cohort, file: Path, checksum: str) -> None:
    """Copy the networks in `file` into a cohort without classifiers and heads.

    Raises:
        CheckpointError: it is another file than the spec names, or holds other networks; nothing was copied then.
    """
    if _checksum(file) != checksum:
        raise CheckpointError(f"the spec's linear.backbone is {checksum}, but {file} is {_checksum(file)}")
    if not _is_ours(file):
        load_published(
            cohort,
            {
                f"module_list.{peer}.{name}": tensor
                for peer, tensors in _query_encoders(file).items()
                for name, tensor in tensors.items()
            },
        )
        return
    checkpoint, wanted = read_checkpoint(file), cohort.state_dict()
    given = {name: tensor for name, tensor in checkpoint.cohort.items() if not _is_on_top(name)}
    if _shapes(wanted) != _shapes(given):
        stem = "one stem" if cohort.shares_stem else "own stems"
        raise CheckpointError(
            f"the networks must be those of the spec's cohort, {' + '.join(cohort.names)} ({stem}), but {file} holds "
            f"{checkpoint.architecture}"
        )
    cohort.load_state_dict(given)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _is_on_top(name: str) -> bool:
    return name.startswith(("classifiers.", "heads."))


def _is_ours(file: Path) -> bool:
    return file.name.startswith("epoch-") and file.suffix == ".pt"


def _checksum(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {file}: {error.strerror}") from error


def _spec_beside(checkpoint: Path) -> RunSpec | None:
    """What the run follows that has this checkpoint; None for one that lies elsewhere."""
    file = checkpoint.absolute().parents[1] / SPEC_FILE
    return recipes.load(str(file)) if file.exists() else None


def _query_encoders(file: Path) -> dict[int, dict[str, Tensor]]:
    """The tensors of each query encoder but those of its head, by peer; no code in the file is run.

    Raises:
        CheckpointError: it is no such file.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged pickle raises is not limited to any few types
        raise CheckpointError(
            f"--from names a run, one of its checkpoints, or one of MoCo's kind, but torch cannot read {file} without "
            f"running code in it ({type(error).__name__})"
        ) from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    encoders: dict[int, dict[str, Tensor]] = {}
    for name, tensor in (state if isinstance(state, dict) else {}).items():
        matched = _QUERY_ENCODER.fullmatch(str(name))
        if matched and isinstance(tensor, Tensor) and not matched[2].startswith("fc."):
            encoders.setdefault(int(matched[1] or 0), {})[matched[2]] = tensor
    if not encoders:
        raise CheckpointError(
            f"--from names a run, one of its checkpoints, or one of MoCo's kind, with tensors encoder_q.… in its entry "
            f"'state_dict', but {file} is none of them"
        )
    if sorted(encoders) != list(range(len(encoders))):
        raise CheckpointError(f"query encoders are numbered from 0, but {file} has {sorted(encoders)}")
    return encoders
