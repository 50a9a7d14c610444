"""Where a run or a sweep takes place: folders, devices, workers. The front doors of both have its fields as options."""

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
    """An environment, and what of Ray is in it."""

    results: Uri | Path = Environment.results
    """Folder that holds every run and sweep, or s3://bucket/prefix."""
    data: Uri | Path = Environment.data
    """The data set's archive, or the folder that holds it; either may be s3://bucket/prefix."""
    readers: int = Environment.readers
    """Processes, of each process that trains, that decode images of a folder or of Parquet; 0 decodes in itself."""
    device: str = Environment.device
    """auto, cpu, cuda, or one CUDA device as cuda:1, which workers cannot have: Ray deals them out."""
    workers: str | None = None
    """Workers on Ray that share every batch of a run, 2, or 1..4 for as many as there is room for. If not given, one
    process trains it alone, which starts faster."""
    cpus_per_worker: int = 1
    """CPU cores of one worker on Ray, and its threads."""
    gpus_per_worker: float | None = None
    """GPUs of one worker on Ray; one where there are any, if not given. A trial without --workers may have 0.5, so that
    two share one."""
    address: str | None = None
    """Ray cluster, as host:port of its head, or auto for the one this machine is a node of; if not given, a Ray that
    is started here and ends with the command."""
    no_dashboard: bool = False
    """Start Ray here without its dashboard, which takes a few seconds of a core."""

    @property
    def group(self) -> tuple[int, int] | None:
        """Fewest and most workers, if they were asked for.

        Raises:
            SpecError: they are neither a number nor a rising range.
        """
        return None if self.workers is None else _workers(self.workers)

    def environment(self, *, download: bool = False) -> Environment:
        """The place as a worker on Ray finds it, wherever that may be."""
        there = self.alone(download=download, threads=self.cpus_per_worker)
        data = there.data if isinstance(there.data, Uri) else there.data.absolute()
        return replace(there, results=there.results.absolute(), data=data)

    def alone(self, *, download: bool = False, threads: int | None = None) -> Environment:
        """The place as a process without Ray finds it."""
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
        )

    def check(self) -> None:
        """Whether what is asked for can be had at all; a worker that asks for more than there is would wait for ever.

        What the nodes of a cluster have, Ray is asked once it is joined.

        Raises:
            SpecError: numbers are out of their range, device and GPUs contradict each other, or this machine has too
                little for one run.
        """
        gpus = self.gpus_per_worker
        if self.cpus_per_worker < 1:
            raise SpecError(f"cpus_per_worker >= 1 must hold, but got {self.cpus_per_worker}")
        if gpus is not None and not 0 <= gpus < math.inf:
            raise SpecError(f"gpus_per_worker >= 0, and finite, must hold, but got {gpus}")
        if ":" in self.device:
            raise SpecError(f"Ray gives each worker its GPU, so the device is auto, cpu or cuda, but got {self.device}")
        if gpus is not None and gpus > 1 and gpus % 1:
            raise SpecError(f"gpus_per_worker is at most 1 or a whole number, but got {gpus}")
        if gpus is not None and gpus % 1 and self.group is not None and self.group[1] > 1:
            raise SpecError(
                "workers of one run have GPUs of their own, since NCCL does not join two on one: gpus_per_worker is a "
                f"whole number, but got {gpus} for {self.workers} workers"
            )
        if (self.device == "cuda" and gpus == 0) or (self.device == "cpu" and gpus):
            raise SpecError(
                f"workers have GPUs if they train on them, but got device={self.device}, gpus_per_worker={gpus}"
            )
        if self.address is not None and self.no_dashboard:
            raise SpecError(f"no_dashboard is of a Ray that is started here, but got address {self.address}")
        if self.address is None:
            self._check_this_machine(self.group[0] if self.group else 1)

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
        """What is about to be waited for where Ray is needed."""
        return "starting Ray (about 10 s)" if self.address is None else f"joining Ray at {self.address}"

    def options(self) -> list[str]:
        """The words that name this place on a command line, without those that are the default."""
        here = ExecutionOptions(results=Path("results"), data=Path("data"))
        words: list[str] = []
        for option in (field.name for field in fields(self)):
            if (value := getattr(self, option)) != getattr(here, option):
                words += [f"--{option.replace('_', '-')}", *([] if value is True else [str(value)])]
        return words


DEFAULT_EXECUTION = ExecutionOptions()


def _workers(text: str) -> tuple[int, int]:
    """`2` is (2, 2), `1..4` is (1, 4)."""
    found = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", text)
    fewest, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= fewest <= most:
        raise SpecError(f"workers are a number from 1, as 2, or a rising range, as 1..4, but got {text!r}")
    return fewest, most
