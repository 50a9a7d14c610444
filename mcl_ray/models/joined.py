"""Several modules as one with M times the channels: for modules whose operations treat all channels alike.

M modules, B images, C channels, F features.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mcl_ray.models.network import GlobalAveragePool, Joinable
from mcl_ray.models.vectorised import is_plain_convolution, is_plain_norm

JOINABLE = nn.Sequential.forward, nn.Identity.forward, nn.ReLU.forward, nn.MaxPool2d.forward
"""Forward methods that compute several modules as they compute one; those of `Joinable` modules do, too."""


def can_be_joined(module: nn.Module) -> bool:
    """Return whether a stack of modules, of maps or of features, is one module with M times the channels."""
    forms = {_joined_form(part) for part in module.modules() if not _is_joinable(part)}
    return None not in forms and (forms == {_JoinedLinear} or _JoinedLinear not in forms)


def _is_joinable(part: nn.Module) -> bool:
    return isinstance(part, Joinable) or type(part).forward in JOINABLE


def _joined_form(part: nn.Module) -> type[nn.Module] | None:
    """Return the class of a part in a joined stack; None if it has none."""
    if is_plain_norm(part):
        return _JoinedBatchNorm
    if is_plain_convolution(part):
        return _JoinedConvolution
    return {nn.Linear: _JoinedLinear, GlobalAveragePool: _JoinedPool}.get(type(part))


def joined(
    module: nn.Module, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]
) -> Callable[[Tensor], Tensor]:
    """Return the function that computes a stack of modules as one with M times the channels.

    Within it, maps are [B, M·C, H, W] and features [M, B, F].

    Args:
        module: one of the modules, which can be joined.
        parameters: stacked parameters [M, …] by name; not copied.
        buffers: stacked buffers [M, …] by name.
    """
    template = copy.deepcopy(module)
    for name, part in template.named_modules():
        if not _is_joinable(part):
            part.__class__ = cast("type[nn.Module]", _joined_form(part))
            for own, stacked in (part._parameters, parameters), (part._buffers, buffers):
                own.update({key: stacked[f"{name}.{key}".lstrip(".")] for key in own if own[key] is not None})

    def together(inputs: Tensor) -> Tensor:
        if inputs.ndim == 3:
            return cast("Tensor", template(inputs.transpose(0, 1)).transpose(0, 1))
        return cast("Tensor", template(inputs.flatten(1, 2)).unflatten(1, (inputs.shape[1], -1)))

    return together


class _JoinedConvolution(nn.Conv2d):
    """Convolution of the maps of all modules, as groups of one."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the convolved maps."""
        weight, bias = self.weight.flatten(0, 1), None if self.bias is None else self.bias.flatten()
        groups, stride = len(self.weight) * self.groups, self.stride
        if maps.is_cpu and self.kernel_size == (1, 1) and self.padding == (0, 0) and stride != (1, 1):
            # oneDNN's gradient of a strided convolution takes twice as long as that of one of every other position.
            maps, stride = F.avg_pool2d(maps, 1, stride), (1, 1)
        return F.conv2d(maps, weight, bias, stride, self.padding, self.dilation, groups)


class _JoinedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation of the maps of all modules, as channels of one."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the normalised maps."""
        assert self.num_batches_tracked is not None
        if self.training:
            self.num_batches_tracked.add_(1)
        tensors = (self.running_mean, self.running_var, self.weight, self.bias)
        mean, variance, weight, bias = (cast("Tensor", tensor).flatten() for tensor in tensors)
        return F.batch_norm(maps, mean, variance, weight, bias, self.training, cast("float", self.momentum), self.eps)


class _JoinedLinear(nn.Linear):
    """Linear layer of each module's features [M, B, F], as one batched product."""

    def forward(self, features: Tensor) -> Tensor:
        """Return the outputs [M, B, …]."""
        weight = self.weight.transpose(1, 2)
        return features @ weight if self.bias is None else torch.baddbmm(self.bias[:, None], features, weight)


class _JoinedPool(GlobalAveragePool):
    """Mean over all positions, whose gradient has the memory layout of the maps; that of a plain mean does not."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return one value per channel."""
        return F.avg_pool2d(maps, maps.shape[2:]).flatten(1)
