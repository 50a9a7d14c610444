import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from mcl_ray.config.spec import OptimizerSpec, ScheduleSpec
from mcl_ray.training.optim import build_optimizer, learning_rate

TRAINS = """
import sys
import tempfile
from mcl_ray import CohortTrainer

CohortTrainer("digits", epochs=1, results=tempfile.mkdtemp()).fit()
print(sorted({"sklearn", "sympy", "torch._dynamo", "torchvision"} & sys.modules.keys()))
"""


def test_cosine_falls_from_the_initial_rate_towards_zero():
    schedule = ScheduleSpec(epochs=4)
    rates = [learning_rate(0.1, schedule, epoch) for epoch in range(4)]
    assert rates == pytest.approx([0.1, 0.05 * (1 + math.sqrt(0.5)), 0.05, 0.05 * (1 - math.sqrt(0.5))])


def test_multistep_drops_at_each_milestone():
    schedule = ScheduleSpec(epochs=6, kind="multistep", milestones=(2, 4), factor=0.1)
    assert [learning_rate(1.0, schedule, epoch) for epoch in range(6)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def steps(optimizer, weight, gradients):
    for gradient in gradients:
        optimizer.zero_grad(set_to_none=True)
        (weight * gradient).sum().backward()
        optimizer.step()
    return weight.detach().clone()


def test_the_optimizer_makes_the_steps_of_torch_and_goes_on_from_its_state():
    gradients = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    spec = OptimizerSpec(lr=0.3, momentum=0.9, nesterov=True, weight_decay=0.01)

    def new():
        module = nn.Linear(5, 1, bias=False)
        nn.init.ones_(module.weight)
        return module, build_optimizer(module, spec)

    reference = nn.Parameter(torch.ones(1, 5))
    expected = torch.optim.SGD([reference], lr=0.3, momentum=0.9, nesterov=True, weight_decay=0.01, fused=True)
    first, optimizer = new()
    halfway = steps(optimizer, first.weight, gradients[:3])
    resumed, again = new()
    again.load_state_dict(optimizer.state_dict())
    with torch.no_grad():
        resumed.weight.copy_(halfway)
    torch.testing.assert_close(steps(again, resumed.weight, gradients[3:]), steps(expected, reference, gradients))
    assert optimizer.state_dict()["param_groups"][0].keys() == expected.state_dict()["param_groups"][0].keys()


@pytest.mark.slow
def test_training_imports_neither_the_compiler_nor_scikit_learn():
    done = subprocess.run([sys.executable, "-c", TRAINS], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
