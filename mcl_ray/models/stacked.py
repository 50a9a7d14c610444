"""Several modules of one architecture, computed together: each operation is one for all of them.

torch.vmap turns the operations of one module into those of the stack: convolutions become grouped ones, linear layers
batched products. The numbers of a module are those that it computes alone, within the arithmetic.

M modules, B images.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F


def likeness(module: nn.Module) -> Hashable:
    """Return a key that is equal for modules that can be stacked: of one architecture, trained in the same tensors."""
    tensors = [(name, tensor.shape, tensor.dtype, tensor.requires_grad) for name, tensor in module.named_parameters()]
    buffers = [(name, tensor.shape, tensor.dtype) for name, tensor in module.named_buffers()]
    return str(module), tuple(tensors), tuple(buffers), tuple(part.training for part in module.modules())


class ModuleStack:
    """M modules of one architecture as one function.

    Until `release`, every parameter and buffer of the modules is a view of its stacked tensor, so that what changes a
    module's tensors in place, such as its optimizer, changes the stack.

    Args:
        modules: modules of equal `likeness`, [M].
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._function = _vectorised(modules[0])
        self._parameters = [dict(module.named_parameters()) for module in modules]
        self._own: list[tuple[Tensor, Tensor]] = []
        self._stacked = self._stack(self._parameters)
        self._buffers = self._stack([dict(module.named_buffers()) for module in modules])

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the output of each module for its own input.

        Shape:
            inputs: [B, M, …]; returns [B, M, …].
        """
        return cast("Tensor", self._function(self._stacked, self._buffers, inputs))

    def give_gradients(self) -> None:
        """Move the gradients of the stacked parameters to the modules' own parameters, as views."""
        for name, stacked in self._stacked.items():
            if stacked.grad is None:
                continue
            for parameters, gradient in zip(self._parameters, stacked.grad.unbind(), strict=True):
                parameters[name].grad = gradient
            stacked.grad = None

    def release(self) -> None:
        """Give every module tensors of its own again, with the present values."""
        for tensor, own in self._own:
            own.copy_(tensor.detach())
            tensor.data = own

    def _stack(self, tensors_of: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {name: self._stack_one([tensors[name] for tensors in tensors_of]) for name in tensors_of[0]}

    def _stack_one(self, tensors: Sequence[Tensor]) -> Tensor:
        """Stack tensors, and make each a view of the result, with the memory layout that it had.

        The fused optimizer walks a parameter, its gradient and its momentum in the order of the memory.
        """
        first = tensors[0]
        stacked = torch.empty_strided(
            (len(tensors), *first.shape), (first.numel(), *first.stride()), dtype=first.dtype, device=first.device
        )
        for tensor, place in zip(tensors, stacked.unbind(), strict=True):
            own = tensor.detach()
            place.copy_(own)
            self._own.append((tensor, own))
            tensor.data = place
        return stacked.requires_grad_(first.requires_grad)


def _vectorised(module: nn.Module) -> Any:
    """Return the function of (parameters, buffers, inputs) that computes a stack of modules."""
    template = copy.deepcopy(module)
    for part in template.modules():
        if type(part) is nn.BatchNorm2d and part.affine and part.track_running_stats and part.momentum is not None:
            part.__class__ = _StackedBatchNorm
        elif type(part) is nn.Conv2d and part.padding_mode == "zeros":
            part.__class__ = _StackedConvolution
        elif isinstance(part, nn.ReLU):
            part.inplace = False  # what a stack computes are views, whose changes in place are costly to differentiate

    def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor) -> Any:
        return functional_call(template, (parameters, buffers), (inputs,))

    return torch.vmap(one, in_dims=(0, 0, 1), out_dims=1)


class _StackedConvolution(nn.Conv2d):
    """Convolution whose stack is one convolution with M times the groups."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the convolved maps."""
        settings = self.stride, self.padding, self.dilation, self.groups
        return cast("Tensor", _Convolution.apply(maps, self.weight, self.bias, *settings))


class _StackedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation whose stack is one batch normalisation with M times the channels."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the normalised maps."""
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        if self.training:
            self.num_batches_tracked.add_(1)
        tensors = self.weight, self.bias, self.running_mean, self.running_var
        return cast("Tensor", _BatchNorm.apply(maps, *tensors, self.training, self.momentum, self.eps))


class _OfStack(torch.autograd.Function):
    """An operation with a rule for torch.vmap: its `vmap` computes all modules of a stack."""

    @staticmethod
    def forward(maps: Tensor, *arguments: Any) -> Tensor:
        """Compute one module: not used, since a stack is computed under vmap."""
        raise NotImplementedError

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Save nothing, as for `forward`."""


class _Convolution(_OfStack):
    """Convolution: under torch.vmap's own rule, autocast would leave it in float32 on a CPU."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, maps: Tensor, *arguments: Any) -> tuple[Tensor, int]:
        """Convolve the maps of all modules as groups of one."""
        weight, bias, stride, padding, dilation, groups = arguments
        joined = maps.movedim(in_dims[0], 1).flatten(1, 2)  # every input of a stack has an axis of modules
        weight, bias = weight.flatten(0, 1), None if bias is None else bias.flatten()
        convolved = F.conv2d(joined, weight, bias, stride, padding, dilation, info.batch_size * groups)
        return convolved.view(len(joined), info.batch_size, -1, *convolved.shape[2:]), 1


class _BatchNorm(_OfStack):
    """Batch normalisation: torch.vmap's own rule applies weight and bias by further operations."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, maps: Tensor, *arguments: Any) -> tuple[Tensor, int]:
        """Normalise the maps of all modules as channels of one."""
        *tensors, training, momentum, eps = arguments
        joined = maps.movedim(in_dims[0], 1).flatten(1, 2)
        weight, bias, mean, variance = (tensor.flatten() for tensor in tensors)
        normalised = F.batch_norm(joined, mean, variance, weight, bias, training, momentum, eps)
        return normalised.view(len(joined), info.batch_size, -1, *joined.shape[2:]), 1
