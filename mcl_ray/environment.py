"""Where to train: device, folders, threads. Nothing here changes what is learned, so nothing here is hashed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
    """`auto` takes a CUDA device where there is one, else the CPU; otherwise any torch device name."""
    threads: int | None = None
    """CPU threads inside one operation; None leaves torch's choice."""
    steps_per_log: int = 50
    """Steps between two readings of the device's meters; nothing synchronises with the device in between."""
    epochs_per_checkpoint: int = 1
    """Epochs between two checkpoints; the last epoch always has one."""
    checkpoints_kept: int = 2
    """Newest checkpoints that stay on disk; one more than is needed, in case the newest is damaged."""
