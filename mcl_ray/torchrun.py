"""The variables by which torchrun tells a process which worker it is; no other module reads them.

Communication between the workers is `mcl_ray.distributed`.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from mcl_ray.errors import UserError


class TorchrunEnv(NamedTuple):
    """The ranks of this process; without torchrun, those of the only worker."""

    rank: int = 0
    """Number of the worker among all, from 0."""
    world_size: int = 1
    """Number of workers."""
    local_rank: int = 0
    """Number of the worker among those of this machine, from 0."""
    local_world_size: int = 1
    """Number of workers on this machine."""

    def device(self, name: str) -> str:
        """Return this worker's device for the device option `name`: each worker takes a CUDA device of its own.

        Raises:
            UserError: this machine does not have a device for each of its workers.
        """
        if self.world_size == 1:
            return name
        if ":" in name:
            raise UserError(
                "`--device` must be auto, cuda or cpu with several workers, as each takes a CUDA device of its own, "
                f"but got {name}"
            )
        import torch

        from mcl_ray.training.build import choose_device

        if choose_device(name).type == "cpu":
            return name
        if self.local_world_size > (count := torch.cuda.device_count()):
            raise UserError(
                f"`workers on a machine <= its CUDA devices` must hold, but got {self.local_world_size} workers, "
                f"{count} CUDA devices; --device cpu needs none"
            )
        return f"cuda:{self.local_rank}"


def read_torchrun_env() -> TorchrunEnv:
    """Read the ranks of this process from torchrun's variables.

    Raises:
        UserError: the variables contradict each other.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return TorchrunEnv()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    values = {name: os.environ.get(name, "") for name in names}
    if all(value.isdecimal() for value in values.values()):
        env = TorchrunEnv(*map(int, values.values()))
        if env.rank < env.world_size and env.local_rank < env.local_world_size <= env.world_size:
            return env
    listed = ", ".join(f"{name}={value!r}" for name, value in values.items())
    raise UserError(f"torchrun numbers the workers from 0, but got {listed}; without torchrun, unset WORLD_SIZE")
