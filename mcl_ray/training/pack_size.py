"""The choice of how many runs share their steps, by a short measurement on the device."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

import torch

from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import replace
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.dataset import Dataset
from mcl_ray.training.pack import can_share_steps, steps_of
from mcl_ray.training.run_state import RunState

STEPS = 5
"""Steps that are measured, of which the first does not count."""
GAIN = 1.1
"""Smallest gain for which runs share their steps."""
FULL_S = 0.5
"""Seconds of a step of one run from which one run is taken to fill the device, so that no more is measured."""


class PackSize(NamedTuple):
    """A number of runs that share their steps, and how many times as fast as one after another they are."""

    size: int
    gain: float


ALONE = PackSize(size=1, gain=1.0)


def measure_pack_size(spec: RunSpec, dataset: Dataset, environment: Environment, most: int) -> PackSize:
    """Time the steps of 1, 2, 4, … runs, until twice as many are no faster together, and return the fastest number.

    Two runs together may be slower than alone where more are faster, so that four are measured in any case.

    Args:
        spec: one of the runs; the others have other seeds.
        dataset: its data set.
        environment: device, folders and threads.
        most: largest number.
    """
    if environment.threads:
        torch.set_num_threads(environment.threads)
    with tempfile.TemporaryDirectory() as folder:
        runs = [RunState(spec, dataset, environment, Path(folder))]
        alone, best = _seconds_per_step(runs), ALONE
        is_worth_it, last = alone < FULL_S and can_share_steps(runs[0]), 0.0
        while is_worth_it and 2 * len(runs) <= most:
            seeds = range(spec.seed + len(runs), spec.seed + 2 * len(runs))
            runs += [RunState(replace(spec, {"seed": s}), dataset, environment, Path(folder)) for s in seeds]
            found = PackSize(len(runs), gain=alone * len(runs) / _seconds_per_step(runs))
            is_worth_it, last = found.gain > last, found.gain
            best = max(best, found, key=lambda one: one.gain)
    return best if best.gain >= GAIN else ALONE


def _seconds_per_step(runs: Sequence[RunState]) -> float:
    """Return the median time of a step of these runs."""
    times = [time.perf_counter()]
    with closing(steps_of(runs)) as steps:  # type: ignore[type-var]
        for _ in islice(steps, STEPS):
            if runs[0].device.type == "cuda":
                torch.cuda.synchronize(runs[0].device)
            times.append(time.perf_counter())
    first, *others = [end - start for start, end in pairwise(times)]
    return statistics.median(others or [first])
