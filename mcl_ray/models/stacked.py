"""Several modules of one architecture, computed together: each operation is one for all of them.

Convolutions become grouped ones, linear layers batched products. A module whose operations treat all channels alike is
computed as one module with M times the channels; torch.vmap turns the operations of any other into those of the stack.
The numbers of a module are those that it computes alone, within the arithmetic.

M modules, B images.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence

from torch import Tensor, nn

from mcl_ray.models.joined import can_be_joined, joined
from mcl_ray.models.vectorised import vectorised


def likeness(module: nn.Module) -> Hashable:
    """Return a key that is equal for modules that can be stacked: of one architecture, trained in the same tensors."""
    tensors = [(name, tensor.shape, tensor.dtype, tensor.requires_grad) for name, tensor in module.named_parameters()]
    buffers = [(name, tensor.shape, tensor.dtype) for name, tensor in module.named_buffers()]
    return str(module), tuple(tensors), tuple(buffers), tuple(part.training for part in module.modules())


class StackedTensor:
    """M tensors of one shape, which until `release` are views of one, with the memory layout that they had.

    The fused optimizer walks a parameter, its gradient and its momentum in the order of the memory.

    Args:
        tensors: the tensors, [M]; the stack requires gradients if they do.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors, first = tensors, tensors[0]
        stacked = first.new_empty_strided((len(tensors), *first.shape), (first.numel(), *first.stride()))
        self._own = [tensor.detach() for tensor in tensors]
        for tensor, own, place in zip(tensors, self._own, stacked.unbind(), strict=True):
            place.copy_(own)
            tensor.data = place
        self.whole = stacked.requires_grad_(first.requires_grad)
        """The stack, [M, …]."""

    def release(self) -> None:
        """Give every tensor its own memory again, with the present values."""
        for tensor, own in zip(self.tensors, self._own, strict=True):
            own.copy_(tensor.detach())
            tensor.data = own


class ModuleStack:
    """M modules of one architecture as one function.

    Until `release`, every parameter and buffer of the modules is a view of its stacked tensor, so that what changes a
    module's tensors in place changes the stack.

    Args:
        modules: modules of equal `likeness`, [M].
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._parameters = _stacked([dict(module.named_parameters()) for module in modules])
        self._buffers = _stacked([dict(module.named_buffers()) for module in modules])
        compute = joined if can_be_joined(modules[0]) else vectorised
        self._function = compute(modules[0], _wholes(self._parameters), _wholes(self._buffers))

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the output of each module for its own input.

        Shape:
            inputs: [B, M, …]; returns [B, M, …].
        """
        return self._function(inputs)

    @property
    def parameters(self) -> Iterable[StackedTensor]:
        """The stacked parameters; they have the gradients."""
        return self._parameters.values()

    def release(self) -> None:
        """Give every module tensors of its own again, with the present values."""
        for stacked in (*self._parameters.values(), *self._buffers.values()):
            stacked.release()


def _stacked(tensors_of: Sequence[Mapping[str, Tensor]]) -> dict[str, StackedTensor]:
    return {name: StackedTensor([tensors[name] for tensors in tensors_of]) for name in tensors_of[0]}


def _wholes(stacked: Mapping[str, StackedTensor]) -> dict[str, Tensor]:
    return {name: one.whole for name, one in stacked.items()}
