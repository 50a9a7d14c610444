"""Provenance of results: the machine and the version of the code, recorded with every run and sweep.

What was trained is in the spec.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import mcl_ray


def processor() -> str:
    """Return the processor's model and the number of cores available to this process, `Xeon …, 8 cores`."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = models[0] if models else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{model}, {cores} core{'s' if cores > 1 else ''}"


_WORKERS = re.compile(r"(\d+) workers, (?:(\d+) to a batch, )?each on ")


def on_workers(hardware: str, workers: int, batch_parts: int | None = None) -> str:
    """Return the hardware of several workers of one run; of one worker its own.

    Args:
        hardware: of one worker.
        workers: number of workers.
        batch_parts: number of workers that share a batch, if others train other peers; None: all.
    """
    if workers == 1:
        return hardware
    shared = "" if batch_parts in (None, workers) else f"{batch_parts} to a batch, "
    return f"{workers} workers, {shared}each on {hardware}"


def workers_of(hardware: str) -> int:
    """Return the number of workers that share a batch by the recorded hardware of a run."""
    match = _WORKERS.match(hardware)
    return int(match[2] or match[1]) if match else 1


def code_version() -> str:
    """Return the package's version, with the commit if it runs from a checkout: `0.1.0+1a2b3c4-dirty`."""
    checkout = Path(mcl_ray.__file__).parents[1]
    git = shutil.which("git")
    # A package installed below another project's repository must not report that repository's commit.
    if git is None or not (checkout / ".git").exists():
        return mcl_ray.__version__
    command = [git, "-C", str(checkout), "describe", "--always", "--dirty", "--exclude", "*"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return f"{mcl_ray.__version__}+{answer.stdout.strip()}" if answer.returncode == 0 else mcl_ray.__version__


def torch_version() -> str | None:
    """Return the version of the installed torch without importing it; None if it is not installed."""
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Machine and code of a run or a sweep; the defaults describe this process on a CPU."""

    host: str = field(default_factory=platform.node)
    hardware: str = field(default_factory=processor)
    """Processor or GPU model, and their number."""
    code_version: str = field(default_factory=code_version)
    torch_version: str | None = field(default_factory=torch_version)
    parameters: int | None = None
    """Trainable parameters of the whole cohort."""
    multiply_adds: int | None = None
    """Multiply-adds of one image, one forward pass through the whole cohort."""
