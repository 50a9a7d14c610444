"""The connection of a sweep to its Ray, with the checks that need one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from mcl_ray.callbacks import SweepCallback, notify
from mcl_ray.config.environment import Environment
from mcl_ray.config.execution import ExecutionOptions
from searches.spec.experiment import Experiment
from trainables.cluster.connect import bundle, connect, fits
from trainables.cluster.node_plugins import check_plugins
from trainables.cluster.shared_storage import check_shared

GPUS = Path("/dev/nvidiactl"), Path("/dev/kfd")
"""Devices of the drivers of GPUs, without torch, which takes a second to import."""


@contextmanager
def connected(
    sweep: Experiment, execution: ExecutionOptions, environment: Environment, callbacks: Sequence[SweepCallback]
) -> Iterator[None]:
    """Connect to a Ray that can run the sweep's trials; this process imports torch while a local one starts.

    Raises:
        UserError: the cluster does not accept this process, has no room for a trial, or a node does not see the same
            folders or plugins as the others; nothing has been written.
    """
    on_status, preloaded = partial(notify, callbacks, "on_status"), _preloaded(sweep, execution)
    with connect(execution, on_status, meanwhile=_import_training, preloaded=preloaded):
        data = [environment.data] if sweep.run.data.reads_files else []
        check_shared(environment, environment.results, data)
        check_plugins(sweep.run.plugins)
        fits(bundle(execution), *(execution.group or (1, 1)))
        yield


def _import_training() -> None:
    """Import what trains, and torch, but nothing of ray, which another thread may be importing."""
    import mcl_ray.training.recorded_run  # noqa: F401


def _preloaded(sweep: Experiment, execution: ExecutionOptions) -> Sequence[str]:
    """Return the modules that processes of a local Ray import as they start, while Tune prepares the first trials.

    Ray starts a process in advance for each core. Unless a trial will run in each, some would take memory for nothing.
    """
    has_gpus = execution.device != "cpu" and (bool(execution.gpus_per_worker) or any(map(Path.exists, GPUS)))
    is_of_one_core = execution.cpus_per_worker == 1 and execution.group is None and execution.pack_size == 1
    trains_in_each = is_of_one_core and not has_gpus and sweep.trials >= (os.cpu_count() or 1)
    return ("trainables.preloaded_trial",) if trains_in_each else ()
