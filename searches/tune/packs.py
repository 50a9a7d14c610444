"""The packs of a sweep: processes that train several trials each, and the callback that frees their places."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import ray

from mcl_ray.callbacks import SweepCallback, TrialEnd, TrialInfo
from trainables.cluster.connect import is_lost
from trainables.pack_actor import PackActor
from trainables.pack_training import measured
from trainables.trial_job import TrialJob

if TYPE_CHECKING:
    from mcl_ray.training.pack_size import PackSize


@dataclass(frozen=True, kw_only=True)
class PackSetting:
    """Number and size of the packs of a sweep."""

    count: int
    size: int
    """Trials that a pack trains at once."""
    bundle: Mapping[str, float]
    """Resources of one pack."""

    @classmethod
    def of(cls, trials: int, *, processes: int, size: int, bundle: Mapping[str, float]) -> Self:
        """Distribute trials evenly over at most so many processes, in packs of at most this size."""
        count = min(processes, math.ceil(trials / size))
        return cls(count=count, size=min(size, math.ceil(trials / count)), bundle=bundle)

    @property
    def trials(self) -> int:
        """Trials that are trained at once."""
        return self.count * self.size


MOST = 32
"""Largest number of trials that are measured together."""


def fastest_size(job: TrialJob, bundle: Mapping[str, float], most: int) -> PackSize:
    """Measure on a node how many trials are trained fastest together, at most this many."""
    task = ray.remote(measured).options(num_cpus=bundle["CPU"], num_gpus=bundle["GPU"])
    return ray.get(task.remote(job, min(most, MOST)))


@contextmanager
def started(setting: PackSetting, job: TrialJob) -> Iterator[Sequence[Any]]:
    """Start the packs, which Ray restarts if their processes die, and end them at the end of this context."""
    actor = ray.remote(PackActor).options(
        num_cpus=setting.bundle["CPU"],
        num_gpus=setting.bundle["GPU"],
        max_concurrency=2 * setting.size + 2,
        max_restarts=-1,
    )
    packs: list[Any] = [actor.remote(job, setting.size) for _ in range(setting.count)]
    try:
        yield packs
    finally:
        for pack in [] if is_lost() else packs:  # a call to a Ray that has ended would wait for a minute
            ray.kill(pack)


class PackLeaver(SweepCallback):
    """Callback that frees the place of a trial that has ended: Tune may have ended its process."""

    def __init__(self, packs: Sequence[Any]) -> None:
        self._packs = packs

    def on_trial_end(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Let every pack close the runs of the trial, if it has them."""
        for pack in self._packs:
            pack.leave.remote(trial.name)
