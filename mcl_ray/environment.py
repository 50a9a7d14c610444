"""Where to train: device, folders, threads. Nothing here changes what is learned, so nothing here is hashed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mcl_ray.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The place a run finds itself in."""

    results: Path = Path("results")
    """Folder that holds every run and sweep."""
    data: Path = Path("data")
    """An archive, or the folder that holds it."""
    download: bool = False
    """Fetch the data set where it is missing and can be fetched."""
    device: str = "auto"
    """`auto` takes a CUDA device where there is one, else the CPU; otherwise `cpu`, `cuda` or `cuda:1`."""
    threads: int | None = None
    """CPU threads inside one operation; None leaves torch's choice."""
    steps_per_log: int = 50
    """Steps between two readings of the device's meters; nothing synchronises with the device in between."""
    epochs_per_checkpoint: int = 1
    """Epochs between two checkpoints; the last epoch always has one."""
    checkpoints_kept: int = 2
    """Newest checkpoints that stay on disk; one more than is needed, in case the newest is damaged."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise UserError(f"a device is auto, cpu, cuda or one CUDA device as cuda:1, but got {self.device!r}")
        if self.threads is not None and self.threads < 1:
            raise UserError(f"threads >= 1 must hold, but got {self.threads}")
