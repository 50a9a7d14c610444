"""Where to train: device, folders, threads. Nothing here changes what is learned, so nothing here is hashed."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from mcl_ray.errors import UserError
from mcl_ray.object_store import Uri, cache_folder


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The place a run finds itself in."""

    results: Path = Path("results")
    """Folder that holds every run and sweep; with a store, this machine's copy of it."""
    store: Uri | None = None
    """Remote store that has every run and sweep, for machines that share no disk."""
    data: Path | Uri = Path("data")
    """An archive, or the folder that holds it."""
    backbone: Path | None = None
    """Checkpoint that linear classification takes its networks from, or a sweep's folder that has the run of it."""
    download: bool = False
    """Fetch the data set where it is missing and can be fetched."""
    device: str = "auto"
    """`auto` takes a CUDA device where there is one, else the CPU; otherwise `cpu`, `cuda` or `cuda:1`."""
    threads: int | None = None
    """CPU threads inside one operation; None leaves torch's choice."""
    readers: int = 1
    """Processes that read and decode images that are not held in memory; 0 reads in the training process."""
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
        if self.readers < 0:
            raise UserError(f"readers >= 0 must hold, but got {self.readers}")

    @property
    def cache(self) -> Path:
        """What was worked out of images once, and can be thrown away."""
        return self.results / "cache"

    def on_this_node(self) -> Environment:
        """The same on the machine of this process, whose copy of the store may lie elsewhere."""
        if self.store is None:
            return self
        results, backbone = replica_folder(self.store), self.backbone
        if backbone is not None and backbone.is_relative_to(self.results):
            backbone = results / backbone.relative_to(self.results)
        return replace(self, results=results, backbone=backbone)


def replica_folder(store: Uri) -> Path:
    """Where this machine has its copy of a store."""
    return cache_folder("stores", store)
