"""Cost of a model, computed from shapes alone: parameters, multiply-adds, and memory for training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

# Batch normalisation in training mode rejects a single value per channel, which one image can result in.
_IMAGES = 2


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Create tensors on the meta device, which have a shape and no values, without initialising them.

    The meta device's own random functions import torch's compiler, which takes 3 s of CPU in every process.
    """
    with torch.device("meta"), _WithoutValues():
        yield


class _WithoutValues(TorchFunctionMode):
    """Leaves out what fills a tensor with random values."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # what the function returns
        if function in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return function(*args, **(kwargs or {}))


def parameter_count(model: nn.Module, *, without: Iterable[nn.Module] = ()) -> int:
    """Return the number of learnable parameters, each counted once, without those of the modules in `without`."""
    excluded = {id(parameter) for module in without for parameter in module.parameters()}
    return sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in excluded)


def multiply_adds(
    model: nn.Module,
    image_shape: tuple[int, int, int],
    *,
    without: Iterable[nn.Module] = (),
    ignore_dilation: bool = False,
) -> int:
    """Count the multiply-adds of all convolutions and linear layers for one image.

    Biases, normalisation, activations and products of two activations are not counted. The forward pass is made on
    the CPU, with zeros for weights: on the meta device it would import torch's compiler, which takes longer.

    Args:
        model: model of images [B, K, H, W], on any device; its own tensors are neither read nor changed.
        image_shape: K, H, W.
        without: modules whose layers are not counted; the published figures of a cohort exclude its heads.
        ignore_dilation: count a dilated convolution as the published figures do. They derive its output size from its
            padding as if it were not dilated, and so count 34 × 34 positions where a 3 × 3 convolution of dilation 2
            has 32 × 32.

    Raises:
        ValueError: with `ignore_dilation`, a convolution's padding is given as text.
    """
    excluded = {id(layer) for module in without for layer in module.modules()}
    counts: list[int] = []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        per_position = layer.weight[0].numel() if isinstance(layer.weight, Tensor) else 0
        if isinstance(layer, nn.Conv2d) and ignore_dilation:
            num_outputs = layer.out_channels * _undilated_positions(layer, inputs[0])
        else:
            num_outputs = output[0].numel()
        counts.append(num_outputs * per_position)

    tensors = (*model.named_parameters(), *model.named_buffers())
    zeros = {name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in tensors}
    images = torch.zeros(_IMAGES, *image_shape)
    with ExitStack() as hooks, torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and id(layer) not in excluded:
                hooks.callback(layer.register_forward_hook(count).remove)
        functional_call(model, zeros, (images,))
    return sum(counts)


def training_bytes(model: nn.Module) -> int:
    """Return the bytes of a model's state under SGD: float32 weights, their gradients and momentum, and buffers."""
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    return sum(4 * (3 if weight.requires_grad else 1) * weight.numel() for weight in model.parameters()) + buffers


def activation_bytes(model: nn.Module, image_shape: tuple[int, int, int], batch_size: int) -> int:
    """Return the bytes that a forward pass in float32 stores for the backward pass, inputs included.

    Args:
        model: model of images [B, K, H, W], on the meta device.
        image_shape: K, H, W.
        batch_size: B.
    """
    weights = {tensor.untyped_storage()._cdata for tensor in model.state_dict().values()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()  # keep a reference: the address of a freed storage can be reused
        if storage._cdata not in weights:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(torch.empty(batch_size, *image_shape, device="meta"))
    return sum(storage.nbytes() for storage in kept.values())


def _undilated_positions(conv: nn.Conv2d, maps: Tensor) -> int:
    if isinstance(conv.padding, str):
        raise ValueError(f"ignore_dilation requires padding in pixels, but got padding={conv.padding!r}")
    sizes = zip(maps.shape[2:], conv.padding, conv.kernel_size, conv.stride, strict=True)
    return prod((size + 2 * padding - kernel) // stride + 1 for size, padding, kernel, stride in sizes)
