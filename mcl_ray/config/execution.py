"""Execution options of runs and sweeps: folders, devices and workers. The commands have these fields as options."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path

from mcl_ray.config.environment import Environment, replica_folder
from mcl_ray.errors import SpecError
from mcl_ray.object_store import Uri


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions:
    """The options that say where and with which resources to train; they do not change what is learned."""

    results: Uri | Path = Environment.results
    """Folder that holds every run and sweep, or s3://bucket/prefix."""
    data: Uri | Path = Environment.data
    """The data set's archive, or the folder that holds it; either may be s3://bucket/prefix."""
    readers: int = Environment.readers
    """Reader processes per training process, for images of a folder or of Parquet; 0: the training process decodes."""
    device: str = Environment.device
    """auto, cpu, cuda, or one CUDA device as cuda:1; not the last with workers, to which Ray assigns devices."""
    workers: str | None = None
    """Workers on Ray that share every batch of a run, 2, or 1..4 for as many as fit. If not given, one process trains
    the run, which starts faster."""
    parallelism: str = Environment.parallelism
    """The part of a run that several workers share: data, every batch; cohort, the peers, and the batch if there are
    more workers than peers; auto, that of the two which sends the fewest bytes within the memory."""
    cpus_per_worker: int = 1
    """CPU cores of one worker on Ray, and its threads."""
    gpus_per_worker: float | None = None
    """GPUs of one worker on Ray; if not given, one if a node has any. A trial without --workers may have 0.5, so that
    two trials share one GPU."""
    pack: str = "off"
    """Trials of a sweep that one process trains together, in joint steps: off, a number as 8, or auto for the fastest
    number by a short measurement. A trial's figures are those that it has alone, within the arithmetic."""
    address: str | None = None
    """Ray cluster, as host:port of its head, or auto for the one this machine is a node of; if not given, a local Ray
    that ends with the command."""
    no_dashboard: bool = False
    """Start the local Ray without its dashboard, which takes a few seconds of a core."""

    @property
    def group(self) -> tuple[int, int] | None:
        """Smallest and largest number of workers; None without workers.

        Raises:
            SpecError: `workers` is neither a number nor a range.
        """
        return None if self.workers is None else _workers(self.workers)

    @property
    def pack_size(self) -> int | None:
        """Number of trials that one process trains together, 1: alone; None: as measured.

        Raises:
            SpecError: `pack` is not off, auto or a number.
        """
        if self.pack in ("off", "auto"):
            return 1 if self.pack == "off" else None
        if not self.pack.isdecimal() or int(self.pack) < 1:
            raise SpecError(f"`pack` must be off, auto or a number from 1, as 8, but got {self.pack!r}")
        return int(self.pack)

    def environment(self, *, download: bool = False) -> Environment:
        """Return the environment of a worker on Ray, whose paths are absolute, since Ray changes its directory."""
        local = self.alone(download=download, threads=self.cpus_per_worker)
        data = local.data if isinstance(local.data, Uri) else local.data.absolute()
        return replace(local, results=local.results.absolute(), data=data)

    def alone(self, *, download: bool = False, threads: int | None = None) -> Environment:
        """Return the environment of this process, without Ray."""
        store = self.results if isinstance(self.results, Uri) else None
        results = replica_folder(self.results) if isinstance(self.results, Uri) else self.results
        return Environment(
            results=results,
            store=store,
            data=self.data,
            readers=self.readers,
            download=download,
            device=self.device,
            threads=threads,
            parallelism=self.parallelism,
        )

    def check(self) -> None:
        """Check that the options can be met: a worker that needs more than there is would wait for ever.

        The resources of a cluster are checked after it is joined.

        Raises:
            SpecError: numbers are out of their range, device and GPUs contradict each other, or this machine has too
                little for one run.
        """
        gpus = self.gpus_per_worker
        if self.pack_size != 1 and self.group is not None:
            raise SpecError(
                f"`pack` requires trials of one process, but got pack={self.pack} and workers={self.workers}"
            )
        self.check_parallelism(has_workers=self.group is not None)
        if self.cpus_per_worker < 1:
            raise SpecError(f"`cpus_per_worker >= 1` must hold, but got {self.cpus_per_worker}")
        if gpus is not None and not 0 <= gpus < math.inf:
            raise SpecError(f"`0 <= gpus_per_worker < infinity` must hold, but got {gpus}")
        if ":" in self.device:
            raise SpecError(f"`device` must be auto, cpu or cuda, as Ray assigns the GPUs, but got {self.device}")
        if gpus is not None and gpus > 1 and gpus % 1:
            raise SpecError(f"`gpus_per_worker` must be at most 1 or a whole number, but got {gpus}")
        if gpus is not None and gpus % 1 and self.group is not None and self.group[1] > 1:
            raise SpecError(
                "`gpus_per_worker` must be a whole number for workers that share a run, since NCCL does not join two "
                f"on one GPU, but got {gpus} for {self.workers} workers"
            )
        if (self.device == "cuda" and gpus == 0) or (self.device == "cpu" and gpus):
            raise SpecError(
                "workers must have GPUs if and only if they train on them, but got "
                f"device={self.device}, gpus_per_worker={gpus}"
            )
        if self.address is not None and self.no_dashboard:
            raise SpecError(f"`--no-dashboard` requires a local Ray, but got --address {self.address}")
        if self.address is None:
            self._check_this_machine(self.group[0] if self.group else 1)

    def check_parallelism(self, *, has_workers: bool) -> None:
        """Check that several workers train a run if an option says what they share.

        Raises:
            SpecError: it does, and there are none.
        """
        if self.parallelism != Environment.parallelism and not has_workers:
            raise SpecError(
                "`parallelism` requires several workers of a run (`workers`, or torchrun), but got "
                f"parallelism={self.parallelism} alone"
            )

    def _check_this_machine(self, fewest: int) -> None:
        cores, needed = os.cpu_count() or 1, fewest * self.cpus_per_worker
        if needed > cores:
            raise SpecError(f"{fewest} workers need {needed} CPU cores, but this machine has {cores}")
        if self.gpus_per_worker or self.device == "cuda":
            import torch

            gpus = fewest * (self.gpus_per_worker or 1)
            if gpus > torch.cuda.device_count():
                raise SpecError(
                    f"{fewest} workers need {gpus:g} GPUs, but this machine has {torch.cuda.device_count()}"
                )

    @property
    def ray(self) -> str:
        """Status message before Ray is started or joined."""
        return "starting Ray (about 10 s)" if self.address is None else f"joining Ray at {self.address}"

    def options(self) -> list[str]:
        """Return these options as they are given on a command line, without those that have their defaults."""
        default = ExecutionOptions(results=Path("results"), data=Path("data"))
        words: list[str] = []
        for option in (field.name for field in fields(self)):
            if (value := getattr(self, option)) != getattr(default, option):
                words += [f"--{option.replace('_', '-')}", *([] if value is True else [str(value)])]
        return words


DEFAULT_EXECUTION = ExecutionOptions()


def _workers(text: str) -> tuple[int, int]:
    """Parse a number or a range of workers: `2` is (2, 2), `1..4` is (1, 4)."""
    found = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", text)
    fewest, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= fewest <= most:
        raise SpecError(f"`workers` must be a number from 1, as 2, or a range, as 1..4, but got {text!r}")
    return fewest, most
