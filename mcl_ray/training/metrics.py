"""Meters that live on the training device and are read once per log interval, never in between."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mcl_ray import distributed
from mcl_ray.errors import NonFiniteLossError


class StepMeter:
    """Keeps every step's losses on the device; reading them back is the only synchronisation.

    A reading checks every loss it reads, so that one that is not finite is named with its step and term.
    """

    def __init__(self, steps_per_log: int, device: torch.device) -> None:
        self._capacity, self._device = steps_per_log, device
        self._rows: Tensor | None = None
        self._names: tuple[str, ...] = ()
        self._filled = 0
        self._read = 0
        self._sums: list[float] = []

    def record(self, values: dict[str, Tensor]) -> bool:
        """Keep one step's scalars; True when the log interval is full and `read` is due."""
        if self._rows is None:
            self._names = tuple(values)
            self._rows = torch.zeros(self._capacity, len(values), device=self._device)
            self._sums = [0.0] * len(values)
        self._rows[self._filled] = torch.stack([value.detach().float() for value in values.values()])
        self._filled += 1
        return self._filled == self._capacity

    def read(self, epoch: int) -> None:
        """Fetch what was recorded since the last reading, as means over the workers, who all have to read.

        Raises:
            NonFiniteLossError: a value is NaN or infinite, on whichever worker; names the first such step (from 1) and
                its first term, the same on every worker.
        """
        if self._rows is None:
            return
        for row in distributed.all_reduce_mean_(self._rows[: self._filled]).tolist():
            self._read += 1
            for i, value in enumerate(row):
                if not math.isfinite(value):
                    raise NonFiniteLossError(self._names[i], value, epoch, self._read)
                self._sums[i] += value
        self._filled = 0

    def means(self) -> dict[str, float]:
        """The mean of each value over all steps read so far."""
        return {name: total / self._read for name, total in zip(self._names, self._sums, strict=True)}
