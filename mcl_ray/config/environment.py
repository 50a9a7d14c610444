"""The environment of a run: device, folders and threads. It does not change what is learned, so it is not hashed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from mcl_ray.errors import UserError
from mcl_ray.object_store import Uri, cache_folder

Parallelism = Literal["data", "cohort", "auto"]
"""Names of the ways in which several workers share a run, see `Environment.parallelism`."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The environment of a run in one process."""

    results: Path = Path("results")
    """Folder of all runs and sweeps; with a store, this machine's replica of it."""
    store: Uri | None = None
    """Remote store of all runs and sweeps, for machines that share no disk."""
    data: Path | Uri = Path("data")
    """An archive, or the folder that holds it."""
    backbone: Path | None = None
    """Checkpoint whose networks linear classification freezes, or the folder of the sweep that has its run."""
    download: bool = False
    """Download the data set if it is missing and can be downloaded."""
    device: str = "auto"
    """`auto` takes a CUDA device where there is one, else the CPU; otherwise `cpu`, `cuda` or `cuda:1`."""
    threads: int | None = None
    """CPU threads inside one operation; None: torch's choice, or one where operations are too small to share."""
    readers: int = 1
    """Processes that read and decode images that are not held in memory; 0 reads in the training process."""
    parallelism: str = "data"
    """The part of a run that several workers share: every batch (`data`); the peers and, with more workers than peers,
    the batch (`cohort`); or that of the two which sends the fewest bytes within the memory (`auto`)."""
    steps_per_log: int = 50
    """Steps between two `on_step` events; the loop does not synchronise with the device in between."""
    epochs_per_checkpoint: int = 1
    """Epochs between two checkpoints; the last epoch always has one."""
    checkpoints_kept: int = 2
    """Newest checkpoints that stay on disk; one more than is needed, in case the newest is damaged."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise UserError(f"`device` must be auto, cpu, cuda or one CUDA device as cuda:1, but got {self.device!r}")
        if self.parallelism not in get_args(Parallelism):
            raise UserError(f"`parallelism` must be data, cohort or auto, but got {self.parallelism!r}")
        if self.threads is not None and self.threads < 1:
            raise UserError(f"`threads >= 1` must hold, but got {self.threads}")
        if self.readers < 0:
            raise UserError(f"`readers >= 0` must hold, but got {self.readers}")

    @property
    def cache(self) -> Path:
        """Folder of indices of images, which can be deleted: they are computed again."""
        return self.results / "cache"

    def on_this_node(self) -> Environment:
        """Return the environment with the paths of this node, whose replica of the store may be in another folder."""
        if self.store is None:
            return self
        results, backbone = replica_folder(self.store), self.backbone
        if backbone is not None and backbone.is_relative_to(self.results):
            backbone = results / backbone.relative_to(self.results)
        return replace(self, results=results, backbone=backbone)


def let_waiting_threads_sleep() -> None:
    """Have OpenMP's threads sleep while they wait for each other, where the user has not chosen; call before torch.

    They spin by default. An operation on few images lasts for microseconds, so that two threads then take many times
    the processor time of one, from each other if anything else runs. OpenMP reads the variable when torch is imported;
    the results are the same.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def replica_folder(store: Uri) -> Path:
    """Return the folder of this machine's replica of a store."""
    return cache_folder("stores", store)
