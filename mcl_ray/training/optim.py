"""The optimiser and the learning rate of an epoch."""

from __future__ import annotations

import math
from bisect import bisect_right

import torch
from torch import nn

from mcl_ray.config.spec import OptimizerSpec, ScheduleSpec


def build_optimizer(module: nn.Module, spec: OptimizerSpec) -> torch.optim.SGD:
    """SGD over every parameter, weight decay on all of them as published."""
    return torch.optim.SGD(
        module.parameters(),
        lr=spec.lr,
        momentum=spec.momentum,
        nesterov=spec.nesterov,
        weight_decay=spec.weight_decay,
        fused=True,
    )


def learning_rate(initial: float, schedule: ScheduleSpec, epoch: int) -> float:
    """The learning rate during `epoch`, counted from 0; constant within an epoch.

    `cosine`: initial · (1 + cos(π·epoch/epochs)) / 2. `multistep`: initial · factor^(milestones passed).
    """
    if schedule.kind == "cosine":
        return initial * (1 + math.cos(math.pi * epoch / schedule.epochs)) / 2
    return initial * schedule.factor ** bisect_right(schedule.milestones, epoch)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Apply `rate` to every group of parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate
