"""Has `tests.support.ray_worker_server` fork the workers of a Ray that this process starts.

Imported by a process of `tests.support.fork_server`, whose programs start a Ray; they have the server's variable.
"""

from __future__ import annotations

from typing import Any

from ray._private.parameter import RayParams

from tests.support import ray_worker

_as_ray_does = RayParams.__init__
# A log monitor reads the output of workers for drivers, none of which asks for it, and takes more time than the GCS.
CHOSEN = {"setup_worker_path": ray_worker.__file__, "include_log_monitor": False}


def initialise(params: RayParams, *arguments: Any, **options: Any) -> None:
    """Set the parameters of a Ray that is started, as Ray does."""
    _as_ray_does(params, *arguments, **CHOSEN | options)


RayParams.__init__ = initialise
