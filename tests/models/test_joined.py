"""Modules that are joined compute what each of them computes; others are left to torch.vmap."""

import copy

import pytest
import torch
from torch import nn

from mcl_ray.models.heads import EmbeddingHead
from mcl_ray.models.joined import can_be_joined
from mcl_ray.models.network import GlobalAveragePool
from mcl_ray.models.registry import build_network
from mcl_ray.models.resnet_cifar import BasicBlock, Bottleneck
from mcl_ray.models.stacked import ModuleStack
from mcl_ray.models.wrn import PreActivationBlock


def every_layer() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1, groups=2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 4, 1, stride=2, bias=True),
        nn.MaxPool2d(2),
        GlobalAveragePool(),
    )


MODULES = {
    "layers": every_layer,
    "basic": lambda: BasicBlock(4, 8, stride=2),
    "bottleneck": lambda: Bottleneck(4, 2, stride=2),
    "pre-activation": lambda: PreActivationBlock(4, 8, stride=2),
    "linear": lambda: nn.Linear(5, 3, bias=False),
    "head": lambda: EmbeddingHead(5, 3),
}


def _gradients(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: one.grad for name, one in module.named_parameters()}


@pytest.mark.parametrize("name", MODULES)
def test_a_stack_computes_what_each_module_computes(name):
    torch.manual_seed(0)
    modules = [MODULES[name]().double() for _ in range(3)]
    alone = copy.deepcopy(modules)
    assert can_be_joined(modules[0])
    inputs = torch.randn(7, 3, 5) if name in ("linear", "head") else torch.randn(7, 3, 4, 8, 8)
    inputs = inputs.double().requires_grad_()
    stack = ModuleStack(modules)
    outputs = stack(inputs)
    outputs.square().sum().backward()
    for parameter in stack.parameters:
        for tensor, gradient in zip(parameter.tensors, parameter.whole.grad, strict=True):
            tensor.grad = gradient
    stack.release()
    seen = inputs.detach().clone().requires_grad_()
    for k, module in enumerate(alone):
        expected = module(seen[:, k])
        expected.square().sum().backward()
        torch.testing.assert_close(outputs[:, k], expected)
        torch.testing.assert_close(_gradients(modules[k]), _gradients(module))
        torch.testing.assert_close(modules[k].state_dict(), module.state_dict())
    torch.testing.assert_close(inputs.grad, seen.grad)


@pytest.mark.parametrize(
    ("network", "is_joined"), [("resnet8", True), ("wrn_16_2", True), ("hcgnet_a1", False), ("shufflenetv2_05x", False)]
)
def test_networks_whose_blocks_mix_channels_are_not_joined(network, is_joined):
    assert can_be_joined(build_network(network, num_classes=2).branch) == is_joined


class Concatenated(nn.Sequential):
    """The input and the output of its layers as channels of one."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.cat([maps, super().forward(maps)], 1)


@pytest.mark.parametrize("module", [Concatenated(nn.ReLU()), nn.Sequential(GlobalAveragePool(), nn.Linear(4, 2))])
def test_modules_that_would_compute_other_values_are_not_joined(module):
    assert not can_be_joined(module)


def test_the_gradient_of_pooled_maps_has_their_layout():
    maps = torch.randn(2, 3, 4, 5, 5, requires_grad=True)
    joined = maps.flatten(1, 2).contiguous(memory_format=torch.channels_last)
    layouts = []
    joined.register_hook(lambda grad: layouts.append(grad.is_contiguous(memory_format=torch.channels_last)))
    ModuleStack([GlobalAveragePool() for _ in range(3)])(joined.unflatten(1, (3, 4))).sum().backward()
    assert layouts == [True]
