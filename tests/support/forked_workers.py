"""Has the workers of a command's own Ray forked; imported by a process of `tests.support.fork_server`.

The imports of a worker take 3 s of CPU time. The Ray has no log monitor, which reads what workers print for drivers
that ask for it; those of sweeps do not. `tests.support.ray_worker_server` is started before.
"""

from __future__ import annotations

from typing import Any

from ray._private import parameter

from tests.support import ray_worker


class RayParams(parameter.RayParams):
    """Ray's parameters of a node, with other defaults."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**{"worker_path": ray_worker.__file__, "include_log_monitor": False} | given)


parameter.RayParams = RayParams
