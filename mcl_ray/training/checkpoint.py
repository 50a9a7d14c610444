"""Checkpoints on disk: one file each, written whole or not at all, verified before it is read.

A file is named `epoch-0012-<first 16 hex digits of its SHA-256>.pt`, so one rename makes it complete and its own name
says whether it is undamaged. It holds everything that resuming needs; what is drawn at random comes from (seed, epoch)
alone, so an epoch's end needs no generator's state.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from mcl_ray.errors import CheckpointError
from mcl_ray.results.atomic_io import write_atomically

FORMAT = 2
_NAME = re.compile(r"epoch-(\d{4,})-([0-9a-f]{16})\.pt")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of a run at the end of an epoch."""

    epoch: int
    """Epochs done."""
    digest: str
    """Digest of the spec that the run follows."""
    architecture: str
    """What the tensors belong to, in words; compared before they are loaded."""
    cohort: dict[str, Any]
    """Networks and heads, by name."""
    optimizer: dict[str, Any]
    method: dict[str, Any] = field(default_factory=dict)
    """What the method remembers beside the cohort, its memory banks; format 1 knew of no such method."""
    rows: list[tuple[Any, ...]]
    """The epoch's figures, reported once more on resuming: that report may have been lost."""
    format: int = FORMAT


class CheckpointFolder:
    """The checkpoints of one run: the newest `kept`, oldest deleted only after a newer one is complete."""

    def __init__(self, path: Path, kept: int = 2) -> None:
        self.path, self._kept = path, kept

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint durably and return its path; the ones before stay until it is complete."""
        buffer = io.BytesIO()
        torch.save({part.name: getattr(checkpoint, part.name) for part in fields(checkpoint)}, buffer)
        content = buffer.getvalue()
        self.path.mkdir(parents=True, exist_ok=True)
        file = self.path / f"epoch-{checkpoint.epoch:04d}-{hashlib.sha256(content).hexdigest()[:16]}.pt"
        write_atomically(file, content)
        for old in self._files()[self._kept :]:
            old.unlink()
        return file

    def latest(self, *, quiet: bool = False) -> tuple[Checkpoint, Path] | None:
        """The newest undamaged checkpoint, or None if there never was one.

        A damaged one is passed over, and said unless `quiet`.

        Raises:
            CheckpointError: there are checkpoints, and every one of them is damaged.
        """
        files = self._files()
        for file in files:
            try:
                return read_checkpoint(file), file
            except CheckpointError as error:
                if not quiet:
                    _log.warning("%s; falling back to the checkpoint before", error)
        if files:
            raise CheckpointError(
                f"a run resumes from an undamaged checkpoint, but all {len(files)} in {self.path} are damaged"
            )
        return None

    def _files(self) -> list[Path]:
        """Newest first."""
        named = ((_NAME.fullmatch(file.name), file) for file in self.path.glob("epoch-*.pt"))
        return [file for _, file in sorted(((int(m[1]), file) for m, file in named if m), reverse=True)]


def read_checkpoint(file: Path) -> Checkpoint:
    """Read one file after verifying its checksum.

    Raises:
        CheckpointError: the file is missing, damaged, not a checkpoint of ours, or from a newer version.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint {file}: {error.strerror}") from error
    named = _NAME.fullmatch(file.name)
    if not named:
        raise CheckpointError(f"a checkpoint is named epoch-<number>-<checksum>.pt, but got {file.name}")
    found = hashlib.sha256(content).hexdigest()[:16]
    if found != named[2]:
        raise CheckpointError(f"checkpoint {file} is damaged: its checksum is {found}, its name says {named[2]}")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{file} is not a checkpoint of this program: {error}") from error
    version = state.get("format") if isinstance(state, dict) else None
    if not isinstance(version, int) or version > FORMAT:
        raise CheckpointError(f"checkpoint formats up to {FORMAT} can be read, but {file} has format {version}")
    return Checkpoint(**state)


def check_belongs(checkpoint: Checkpoint, file: Path, *, digest: str, architecture: str) -> None:
    """A run resumes only from its own spec's checkpoints.

    Raises:
        CheckpointError: the architecture or the spec is another.
    """
    if checkpoint.architecture != architecture:
        raise CheckpointError(
            f"checkpoint {file} is of another architecture: it holds {checkpoint.architecture}, "
            f"but the spec asks for {architecture}"
        )
    if checkpoint.digest != digest:
        raise CheckpointError(f"checkpoint {file} belongs to spec {checkpoint.digest}, but this run follows {digest}")
