"""Meter of losses on the training device, read once per log interval."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mcl_ray import distributed
from mcl_ray.errors import NonFiniteLossError


class StepMeter:
    """Records every step's losses on the device; only `read` synchronises with the device.

    `read` checks every loss, so that a loss which is not finite is reported with its step and term.

    Args:
        steps_per_log: number of steps in a log interval.
        device: the training device.
    """

    def __init__(self, steps_per_log: int, device: torch.device) -> None:
        self._capacity, self._device = steps_per_log, device
        self._rows: Tensor | None = None
        self._names: tuple[str, ...] = ()
        self._filled = 0
        self._read = 0
        self._sums: list[float] = []

    def record(self, values: dict[str, Tensor]) -> bool:
        """Record one step's scalars; return True when the log interval is complete and `read` is due."""
        if self._rows is None:
            self._names = tuple(values)
            self._rows = torch.zeros(self._capacity, len(values), device=self._device)
            self._sums = [0.0] * len(values)
        self._rows[self._filled] = torch.stack([value.detach().float() for value in values.values()])
        self._filled += 1
        return self._filled == self._capacity

    def read(self, epoch: int) -> None:
        """Read the losses recorded since the last call, as means over the workers; every worker must call this.

        Args:
            epoch: the epoch, from 1, for error messages.

        Raises:
            NonFiniteLossError: a loss on some worker is NaN or infinite; the error has the first such step (from 1) and
                its first term, and is the same on every worker.
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
        """Return the mean of each loss over all steps read so far."""
        return {name: total / self._read for name, total in zip(self._names, self._sums, strict=True)}
