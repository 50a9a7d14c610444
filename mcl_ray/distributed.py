"""Workers that train one run together: who they are, and what they tell each other.

Everything here asks torch for the process group, which a front door or Ray has joined, and does nothing for a process
that is alone. What is exchanged and when is for others to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
import torch.distributed.nn  # where DDP is the first to import it, its defaults hold the group, whose threads never end
from torch import Tensor, nn

from mcl_ray.errors import MclError

T = TypeVar("T")

# W workers


def rank() -> int:
    """This worker's number, from 0."""
    return dist.get_rank() if _has_group() else 0


def world_size() -> int:
    """How many workers there are, W."""
    return dist.get_world_size() if _has_group() else 1


def is_rank_zero() -> bool:
    """Whether this worker is the one that writes and speaks for all."""
    return rank() == 0


@contextmanager
def group(rank: int, world_size: int, device: torch.device) -> Iterator[None]:
    """Join the group that MASTER_ADDR and MASTER_PORT name, and leave it at the end; one worker is no group.

    Tensors on CPUs travel by gloo, those on CUDA devices by NCCL. The group's threads end with it: one that let go of a
    tensor while the interpreter ends would abort the process. Whoever leaves by an exception does not take leave of the
    others, who may be waiting for it in vain; the end of its process tells them.
    """
    if world_size == 1:
        yield
        return
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, rank=rank, world_size=world_size)
    yield
    dist.destroy_process_group()


@dataclass(frozen=True)
class BatchShards:
    """How a batch is dealt out: so many images to each worker, in the order of their ranks."""

    sizes: tuple[int, ...]

    @property
    def mine(self) -> int:
        """Images of this worker."""
        return self.sizes[rank()]

    @property
    def start(self) -> int:
        """Images of the workers before this one."""
        return sum(self.sizes[: rank()])

    @property
    def whole(self) -> int:
        """Images of all workers."""
        return sum(self.sizes)

    @property
    def weight(self) -> float:
        """What a mean over this worker's images counts for among the workers' means: 1 where all shares are equal."""
        return len(self.sizes) * self.mine / self.whole


SINGLE_SHARD = BatchShards((1,))
"""One worker has it all, however much it is."""


def gather(part: Tensor, shares: BatchShards, dim: int = 0) -> Tensor:
    """All workers' parts, side by side along `dim` in the order of their ranks, with their gradient.

    The parts are equal in shape, but along `dim`, where they are as long as `shares` says.

    What comes of the whole must be the same on every worker, as a loss over the global batch is, and gradients of
    parameters must be averaged over the workers, as DistributedDataParallel does. Then backward needs no exchange: a
    worker's own slice of the gradient, W times, is what the average makes exact.
    """
    return cast("Tensor", _Gather.apply(part, shares, dim)) if world_size() > 1 else part


def all_reduce_sum(part: Tensor) -> Tensor:
    """The sum of all workers' tensors, equal in shape, with its gradient: the sum of what each worker makes of it."""
    return cast("Tensor", _Sum.apply(part)) if world_size() > 1 else part


def all_reduce_mean_(values: Tensor) -> Tensor:
    """Replace `values` by their mean over the workers; not differentiable."""
    if world_size() > 1:
        dist.all_reduce(values)
        values /= world_size()
    return values


def gather_values(value: T) -> list[T]:
    """The values of all workers, in the order of their ranks."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast_buffers(module: nn.Module) -> None:
    """Give every worker the first one's buffers: running statistics, which each collects from its own images."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def run_on_rank_zero(make: Callable[[], T]) -> T:
    """What the first worker makes, on every worker; it alone makes it.

    Raises:
        MclError: the first worker's, on every worker.
    """
    if world_size() == 1:
        return make()
    outcome = [_attempt(make) if is_rank_zero() else None]
    dist.broadcast_object_list(outcome, src=0)
    value, error = cast("tuple[T, Exception | None]", outcome[0])
    if error is not None:
        raise error
    return value


def run_on_all_ranks(make: Callable[[], T]) -> T:
    """What this worker makes, once every worker has made its own; all wait for the slowest.

    Raises:
        MclError: of the lowest rank that could not, on every worker.
    """
    if world_size() == 1:
        return make()
    value, error = _attempt(make)
    errors: list[Exception | None] = [None] * world_size()
    dist.all_gather_object(errors, error)
    for told in errors:
        if told is not None:
            raise told
    return cast("T", value)


def _has_group() -> bool:
    return dist.is_available() and dist.is_initialized()


def _attempt(make: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """What was made, or the error that a user can meet; every other ends this worker, and so all."""
    try:
        return make(), None
    except (MclError, OSError) as error:
        return None, error


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, shares: BatchShards, dim: int) -> Tensor:
        ctx.shares, ctx.dim = shares, dim
        missing = max(shares.sizes) - shares.mine  # gloo exchanges equal shapes
        padded = torch.cat([part, part.narrow(dim, 0, missing)], dim) if missing else part.contiguous()
        parts = [torch.empty_like(padded) for _ in shares.sizes]
        dist.all_gather(parts, padded)
        return torch.cat([one.narrow(dim, 0, size) for one, size in zip(parts, shares.sizes, strict=True)], dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        own = gradients[0].narrow(ctx.dim, ctx.shares.start, ctx.shares.mine)
        return own * len(ctx.shares.sizes), None, None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:  # noqa: ARG004 -- torch's signature
        return _sum(part)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004 -- torch's signature
        return _sum(gradients[0])


def _sum(part: Tensor) -> Tensor:
    total = part.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total
