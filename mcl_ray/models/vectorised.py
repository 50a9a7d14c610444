"""Several modules of any kind as one: torch.vmap turns the operations of one module into those of all.

M modules, B images.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F


def vectorised(
    module: nn.Module, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]
) -> Callable[[Tensor], Tensor]:
    """Return the function that computes a stack of modules, [B, M, …] to [B, M, …].

    Args:
        module: one of the modules.
        parameters: stacked parameters [M, …] by name; not copied.
        buffers: stacked buffers [M, …] by name.
    """
    template = copy.deepcopy(module)
    for part in template.modules():
        if is_plain_norm(part):
            part.__class__ = _StackedBatchNorm
        elif is_plain_convolution(part):
            part.__class__ = _StackedConvolution
        elif isinstance(part, nn.ReLU):
            part.inplace = False  # what a stack computes are views, whose changes in place are costly to differentiate

    def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], inputs: Tensor) -> Any:
        return functional_call(template, (parameters, buffers), (inputs,))

    stacked = torch.vmap(one, in_dims=(0, 0, 1), out_dims=1)
    return lambda inputs: cast("Tensor", stacked(dict(parameters), dict(buffers), inputs))


def is_plain_norm(part: nn.Module) -> bool:
    """Return whether a part is a batch normalisation with all its tensors."""
    return type(part) is nn.BatchNorm2d and part.affine and part.track_running_stats and part.momentum is not None


def is_plain_convolution(part: nn.Module) -> bool:
    """Return whether a part is a convolution that pads with zeros, if at all."""
    return type(part) is nn.Conv2d and part.padding_mode == "zeros"


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
