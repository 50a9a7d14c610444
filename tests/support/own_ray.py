"""Has `tests.support.ray_worker_server` fork the workers of a Ray that this process starts.

Imported by a process of `tests.support.fork_server`, whose programs start a Ray; they have the server's variable.
"""

from __future__ import annotations

from typing import Any

from ray._private.parameter import RayParams

from tests.support import ray_worker

_as_ray_does = RayParams.__init__
CHOSEN = {
    "setup_worker_path": ray_worker.__file__,
    "worker_path": ray_worker.__file__,
    "include_log_monitor": False,  # it reads the output of workers for drivers, none of which asks for it
    "no_monitor": True,  # the autoscaler, which has nothing to scale
    "ray_client_server_port": None,  # no test connects by it
}
"""Parameters of every Ray: processes that no test needs take more CPU time than the GCS."""


def initialise(params: RayParams, *arguments: Any, **options: Any) -> None:
    """Set the parameters of a Ray that is started, as Ray does."""
    _as_ray_does(params, *arguments, **options | CHOSEN)


RayParams.__init__ = initialise
