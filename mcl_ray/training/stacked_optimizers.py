"""The optimizers of several runs whose cohorts are stacked: each updates its run's part of every stack at once.

K runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from mcl_ray.models.stacked import StackedTensor
from mcl_ray.training.cohort_stack import CohortStack
from mcl_ray.training.optim import SGD

OPTIONS = "lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize"


class _Part(NamedTuple):
    """The values of a stacked parameter that are one run's."""

    values: Tensor
    momentum: Tensor | None
    """Their momentum; None for an optimizer without it."""
    buffers: StackedTensor | None
    """The run's own momentum buffers, stacked, which `momentum` views."""


class _Update(NamedTuple):
    """What one optimizer changes in a step, and by what."""

    parameters: list[Tensor]
    gradients: list[Tensor]
    momenta: list[Tensor | None]


class StackedOptimizers:
    """K optimizers as one, with the numbers that each computes alone.

    Until `release`, the momentum buffers in their states are views of stacked ones.

    Args:
        stack: the stacked cohorts, [K].
        optimizers: their optimizers, [K].
    """

    def __init__(self, stack: CohortStack, optimizers: Sequence[SGD]) -> None:
        self._stack, self._optimizers = stack, optimizers
        self._parts: dict[int, list[_Part | None]] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Update the cohorts by the gradients of the stack, which are used up."""
        updates = [_Update([], [], []) for _ in self._optimizers]
        for index, (stacked, sizes) in enumerate(self._stack.parameters):
            if stacked.whole.grad is None:
                continue
            if index not in self._parts:
                self._parts[index] = self._parts_of(stacked, sizes)
            gradients = _flat(stacked.whole.grad).split_with_sizes(sizes)
            for update, part, gradient in zip(updates, self._parts[index], gradients, strict=True):
                if part is not None:
                    update.parameters.append(part.values)
                    update.gradients.append(gradient)
                    update.momenta.append(part.momentum)
            stacked.whole.grad = None
        for optimizer, update in zip(self._optimizers, updates, strict=True):
            (group,) = optimizer.param_groups
            sgd(*update, fused=True, **{name: group[name] for name in OPTIONS})

    def release(self) -> None:
        """Give every optimizer momentum buffers of its own again, with the present values."""
        for parts in self._parts.values():
            for part in parts:
                if part is not None and part.buffers is not None:
                    part.buffers.release()
        self._parts.clear()

    def _parts_of(self, stacked: StackedTensor, sizes: Sequence[int]) -> list[_Part | None]:
        values = _flat(stacked.whole.detach()).split_with_sizes([*sizes])
        owners = _split(stacked.tensors, sizes)
        each = zip(self._optimizers, values, owners, strict=True)
        return [_part(own, optimizer, its) if its else None for optimizer, own, its in each]


def _flat(stacked: Tensor) -> Tensor:
    """View a stack as [M, values], in the order of the memory; the fused optimizer copies tensors of other layouts."""
    shape = len(stacked), stacked[0].numel()
    return stacked.as_strided(shape, (shape[1], 1))


def _part(values: Tensor, optimizer: SGD, parameters: Sequence[Tensor]) -> _Part:
    buffers = _momentum(optimizer, parameters)
    return _Part(values, None if buffers is None else _flat(buffers.whole), buffers)


def _momentum(optimizer: SGD, parameters: Sequence[Tensor]) -> StackedTensor | None:
    """Return the momentum buffers of a run's parameters, stacked: at first zeros, as there is no dampening."""
    (group,) = optimizer.param_groups
    if not group["momentum"]:
        return None
    states: list[dict[str, Any]] = [optimizer.state[parameter] for parameter in parameters]
    for parameter, state in zip(parameters, states, strict=True):
        if state.get("momentum_buffer") is None:
            state["momentum_buffer"] = torch.zeros_like(parameter)
    return StackedTensor([state["momentum_buffer"] for state in states])


def _split(tensors: Sequence[Tensor], sizes: Sequence[int]) -> list[Sequence[Tensor]]:
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    return [tensors[start : start + size] for start, size in zip(starts, sizes, strict=True)]
