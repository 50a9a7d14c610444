"""Checkpoints on disk: one file each, written atomically, and verified before it is read.

A file is named `epoch-0012-<first 16 hex digits of its SHA-256>.pt`, so that one rename makes it visible and its name
contains its checksum. It holds everything that resuming needs. All random numbers depend only on (seed, epoch), so that
no generator's state is stored.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from mcl_ray.errors import CheckpointError, StoreError
from mcl_ray.results.atomic_io import write_atomically

FORMAT = 2
_NAME = re.compile(r"epoch-(\d{4,})-([0-9a-f]{16})\.pt")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of a run at the end of an epoch."""

    epoch: int
    """Number of completed epochs."""
    digest: str
    """Digest of the run's spec."""
    architecture: str
    """Description of the architecture, compared before the tensors are loaded."""
    cohort: dict[str, Any]
    """Tensors of networks and heads, by name."""
    optimizer: dict[str, Any]
    """State of the optimiser."""
    method: dict[str, Any] = field(default_factory=dict)
    """State of the method in addition to the cohort, such as memory banks; empty in format 1."""
    rows: list[tuple[Any, ...]]
    """Metrics of the epoch, reported again on resuming, since the first report may have been lost."""
    format: int = FORMAT
    """Version of the checkpoint format."""


class CheckpointFolder:
    """The checkpoints of one run; an old one is deleted only after a newer one is complete.

    Args:
        path: the folder, created by the first `save`.
        kept: number of newest checkpoints to keep.
    """

    def __init__(self, path: Path, kept: int = 2) -> None:
        self.path, self._kept = path, kept

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint durably, delete superfluous ones, and return its path.

        Raises:
            StoreError: the folder cannot be written, or the one that it lies in was renamed or removed.
        """
        buffer = io.BytesIO()
        torch.save({part.name: getattr(checkpoint, part.name) for part in fields(checkpoint)}, buffer)
        content = buffer.getvalue()
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"results must be writable, but creating {self.path} failed: {error.strerror or error}"
            ) from error
        file = self.path / f"epoch-{checkpoint.epoch:04d}-{hashlib.sha256(content).hexdigest()[:16]}.pt"
        write_atomically(file, content)
        for old in self._files()[self._kept :]:
            old.unlink()
        return file

    def latest(self, *, quiet: bool = False) -> tuple[Checkpoint, Path] | None:
        """Return the newest undamaged checkpoint and its path, or None if the folder has no checkpoints.

        Args:
            quiet: skip a damaged checkpoint without a warning.

        Raises:
            CheckpointError: there are checkpoints, but all are damaged.
        """
        files = self._files()
        for file in files:
            try:
                return read_checkpoint(file), file
            except CheckpointError as error:
                if not quiet:
                    _log.warning("%s; falling back to the previous checkpoint", error)
        if files:
            raise CheckpointError(
                f"resuming requires an undamaged checkpoint, but all {len(files)} in {self.path} are damaged"
            )
        return None

    def _files(self) -> list[Path]:
        """Return the checkpoint files, newest first."""
        named = ((_NAME.fullmatch(file.name), file) for file in self.path.glob("epoch-*.pt"))
        return [file for _, file in sorted(((int(m[1]), file) for m, file in named if m), reverse=True)]


def read_checkpoint(file: Path) -> Checkpoint:
    """Read a checkpoint after verifying its checksum. No code in the file is executed.

    Raises:
        CheckpointError: the file is missing, damaged, not a checkpoint of this program, or of a newer format.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {file}: {error.strerror}") from error
    named = _NAME.fullmatch(file.name)
    if not named:
        raise CheckpointError(f"a checkpoint's name must be epoch-<number>-<checksum>.pt, but got {file.name}")
    found = hashlib.sha256(content).hexdigest()[:16]
    if found != named[2]:
        raise CheckpointError(f"checkpoint {file} is damaged: its checksum is {found}, but its name has {named[2]}")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{file} is not a checkpoint of this program: {error}") from error
    version = state.get("format") if isinstance(state, dict) else None
    if not isinstance(version, int) or version > FORMAT:
        raise CheckpointError(f"`format <= {FORMAT}` must hold for a checkpoint, but {file} has format {version}")
    return Checkpoint(**state)


def check_belongs(checkpoint: Checkpoint, file: Path, *, digests: Sequence[str], architecture: str) -> None:
    """Check that a run can be resumed from a checkpoint.

    Args:
        checkpoint: the checkpoint.
        file: its path, for the error message.
        digests: digests of the run's spec, the current one first.
        architecture: description of the run's architecture.

    Raises:
        CheckpointError: the architecture or the spec differs.
    """
    if checkpoint.architecture != architecture:
        raise CheckpointError(
            f"checkpoint {file} is of another architecture: it holds {checkpoint.architecture}, "
            f"but the spec requires {architecture}"
        )
    if checkpoint.digest not in digests:
        raise CheckpointError(f"checkpoint {file} belongs to spec {checkpoint.digest}, but this run has {digests[0]}")
