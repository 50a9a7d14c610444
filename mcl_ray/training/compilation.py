"""Compilation of a run's networks by torch.compile: what is compiled, when, and what it requires of the machine.

The networks' repeated blocks are compiled, not whole networks: blocks of one class and one shape, of whatever stage,
peer or run of this process, share their compiled code, and torch keeps it on the disk for later processes.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from mcl_ray.cohort import Cohort
from mcl_ray.config.spec import ComputeSpec
from mcl_ray.errors import SpecError, TrainingError

MOST_SHAPES = 64
"""Shapes for which a class of blocks is compiled in one process; torch's 8 are too few for several networks. A block of
one shape more is computed as without compilation, and torch logs a warning."""
MODES = {"blocks": "default", "graphs": "reduce-overhead"}
"""Value of `compute.compile` → torch.compile's mode."""
COMPILERS = {
    "cuda": ("CC", ("gcc", "clang")),
    "cpu": ("CXX", ("clang++" if sys.platform == "darwin" else "g++",)),
}
"""Kind of device → environment variable that names the compiler, and the programs that are taken without it."""


def compile_blocks(cohort: Cohort, compute: ComputeSpec) -> None:
    """Have the blocks of a cohort's networks compiled, in place, when they are first called.

    The names of tensors do not change. A copy of the cohort is not compiled.

    Args:
        cohort: the cohort, on its device.
        compute: the settings of the run; without `compile` nothing is done.
    """
    if compute.compile == "off":
        return
    import torch._dynamo  # takes a second

    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_SHAPES)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns that a CPU is no GPU
    for network in (*cohort.stems, *cohort.branches):
        for block in [*blocks_of(network)] or [network]:
            block.compile(dynamic=False, mode=MODES[compute.compile])


def blocks_of(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost modules of a network's sequences that are neither layers nor sequences themselves."""
    for part in network.children():
        is_block = any(True for _ in part.children()) and not isinstance(part, nn.Sequential | nn.ModuleList)
        if is_block and isinstance(network, nn.Sequential | nn.ModuleList):
            yield part
        else:
            yield from blocks_of(part)


@contextmanager
def without_compilation(compute: ComputeSpec) -> Iterator[None]:
    """Compute compiled blocks as if they were not inside this context, for shapes that are not worth compiling."""
    if compute.compile == "off":
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def check_compilation(compute: ComputeSpec, device: torch.device) -> None:
    """Check that this machine can compile what a run asks for.

    Raises:
        SpecError: the device has no CUDA graphs, or this machine has no compiler or no headers of Python.
    """
    if compute.compile == "off":
        return
    asked, otherwise = f"compute.compile={compute.compile}", "set compute.compile=off"
    if compute.compile == "graphs" and device.type != "cuda":
        raise SpecError(
            f"{asked} requires a CUDA device, but got device={device.type}; set compute.compile=blocks or off"
        )
    variable, programs = COMPILERS["cuda" if device.type == "cuda" else "cpu"]
    if variable in os.environ:
        programs = (*shlex.split(os.environ[variable])[:1],)
    if not any(map(shutil.which, programs)):
        raise SpecError(
            f"{asked} requires a compiler, {variable} or else one on the PATH, but this machine has no program "
            f"{' or '.join(programs)}; install one, as the package g++ of Debian, or {otherwise}"
        )
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        raise SpecError(
            f"{asked} requires the headers of Python, but {headers} has no Python.h; install them, as the package "
            f"python3-dev of Debian, or {otherwise}"
        )


@contextmanager
def failed_compilation_is_typed() -> Iterator[None]:
    """Convert the errors of torch.compile to one.

    Raises:
        TrainingError: a block cannot be compiled.
    """
    try:
        yield
    except RuntimeError as error:
        dynamo = sys.modules.get("torch._dynamo.exc")
        if dynamo is None or not isinstance(error, dynamo.TorchDynamoException):
            raise
        reason = str(error).strip().splitlines()[0]
        raise TrainingError(f"torch.compile failed; compute.compile=off trains without it: {reason}") from error
