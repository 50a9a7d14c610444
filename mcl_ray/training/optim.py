"""The optimiser and the learning rate schedule."""

from __future__ import annotations

import inspect
import math
from bisect import bisect_right

import torch
from torch import nn

from mcl_ray.config.spec import OptimizerSpec, ScheduleSpec


class SGD(torch.optim.SGD):
    """torch's SGD in its uncompiled form.

    torch wraps these methods for use in compiled functions. The wrappers import the compiler at their first call,
    which takes 3 s of CPU in every process that trains.
    """

    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)
    state_dict = inspect.unwrap(torch.optim.SGD.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.SGD.load_state_dict)
    zero_grad = inspect.unwrap(torch.optim.SGD.zero_grad)
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


def build_optimizer(module: nn.Module, spec: OptimizerSpec) -> SGD:
    """Build SGD over all parameters, with weight decay on all of them, as in the published code."""
    return SGD(
        module.parameters(),
        lr=spec.lr,
        momentum=spec.momentum,
        nesterov=spec.nesterov,
        weight_decay=spec.weight_decay,
        fused=True,
    )


def learning_rate(initial: float, schedule: ScheduleSpec, epoch: int) -> float:
    """Return the learning rate of an epoch, counted from 0; it is constant within the epoch.

    `cosine`: initial · (1 + cos(π·epoch/epochs)) / 2. `multistep`: initial · factor^(number of milestones <= epoch).
    """
    if schedule.kind == "cosine":
        return initial * (1 + math.cos(math.pi * epoch / schedule.epochs)) / 2
    return initial * schedule.factor ** bisect_right(schedule.milestones, epoch)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
