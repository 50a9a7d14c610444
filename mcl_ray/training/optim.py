"""The optimiser and the learning rate schedule."""

from __future__ import annotations

import inspect
import math
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mcl_ray.cohort import Cohort
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


def state_of_all_peers(optimizer: torch.optim.Optimizer, cohort: Cohort) -> dict[str, Any]:
    """Return the optimiser's state as that of one process, also where the peers are on several workers.

    Every worker whose peers differ must call this; the one with the first peers receives the state of all.
    """
    state = optimizer.state_dict()
    own = [name for name, _ in cohort.named_parameters()]
    found = cohort.entries_of_all_peers({own[index]: entry for index, entry in state["state"].items()})
    names, (group,) = cohort.parameter_names, state["param_groups"]
    return {
        "state": {index: found[name] for index, name in enumerate(names) if name in found},
        "param_groups": [group | {"params": list(range(len(names)))}],
    }


def load_state_of_all_peers(optimizer: torch.optim.Optimizer, cohort: Cohort, state: Mapping[str, Any]) -> None:
    """Load what `state_of_all_peers` returned, as far as it is of this worker's peers."""
    index_of = {name: index for index, name in enumerate(cohort.parameter_names)}
    own = [index_of[name] for name, _ in cohort.named_parameters()]
    (group,) = state["param_groups"]
    optimizer.load_state_dict(
        {
            "state": {i: state["state"][index] for i, index in enumerate(own) if index in state["state"]},
            "param_groups": [group | {"params": list(range(len(own)))}],
        }
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
