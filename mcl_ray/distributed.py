"""Ranks and collectives of the workers that train one run together.

All functions use torch's default process group, which a command or Ray has initialised; in a single process they do
nothing. The training loop and the methods decide what is exchanged and when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
import torch.distributed.nn  # if DDP imports it first, its default arguments keep the group and its threads alive
from torch import Tensor, nn

from mcl_ray.errors import MclError

T = TypeVar("T")

# W workers


def rank() -> int:
    """Return the rank of this worker, from 0."""
    return dist.get_rank() if _has_group() else 0


def world_size() -> int:
    """Return the number of workers, W."""
    return dist.get_world_size() if _has_group() else 1


def is_rank_zero() -> bool:
    """Return whether this worker has rank 0, the one that writes records and messages."""
    return rank() == 0


@contextmanager
def group(rank: int, world_size: int, device: torch.device) -> Iterator[None]:
    """Join the process group at MASTER_ADDR and MASTER_PORT, and destroy it at the end; one worker needs no group.

    Tensors on CPUs are exchanged by gloo, those on CUDA devices by NCCL. Destroying the group ends its threads: a
    thread that frees a tensor while the interpreter shuts down would abort the process. After an exception the group is
    not destroyed, since that would wait for workers that may be blocked in a collective; the end of this process makes
    their collectives fail.

    Args:
        rank: rank of this worker.
        world_size: number of workers, W.
        device: device of this worker.
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
    """Split of a batch into contiguous shards, one per worker, in the order of their ranks."""

    sizes: tuple[int, ...]
    """[W], number of images of each worker."""

    @property
    def mine(self) -> int:
        """Number of images of this worker."""
        return self.sizes[rank()]

    @property
    def start(self) -> int:
        """Index of this worker's first image in the whole batch."""
        return sum(self.sizes[: rank()])

    @property
    def whole(self) -> int:
        """Number of images of all workers."""
        return sum(self.sizes)

    @property
    def weight(self) -> float:
        """Factor that turns a mean over this worker's images into its part of the mean over workers.

        The mean of the workers' weighted means is the mean over the whole batch. It is 1 if all shards are equal.
        """
        return len(self.sizes) * self.mine / self.whole


SINGLE_SHARD = BatchShards((1,))
"""Shards of a single worker, for a batch of any size."""


def gather(part: Tensor, shares: BatchShards, dim: int = 0) -> Tensor:
    """Concatenate all workers' tensors along `dim`, in the order of their ranks; differentiable.

    The tensors have the same shape, except along `dim`, where their lengths are `shares.sizes`.

    The gradient is correct under two conditions: every worker computes the same function of the whole, such as a loss
    over the global batch, and gradients of parameters are averaged over the workers, as DistributedDataParallel does.
    Then the backward pass needs no exchange: W times this worker's own slice of the gradient gives the exact average.
    """
    return cast("Tensor", _Gather.apply(part, shares, dim)) if world_size() > 1 else part


def all_reduce_sum(part: Tensor) -> Tensor:
    """Return the sum of all workers' tensors of one shape; differentiable, its gradient is the sum of all workers'."""
    return cast("Tensor", _Sum.apply(part)) if world_size() > 1 else part


def all_reduce_mean_(values: Tensor) -> Tensor:
    """Replace `values` in place by their mean over the workers; not differentiable."""
    if world_size() > 1:
        dist.all_reduce(values)
        values /= world_size()
    return values


def gather_values(value: T) -> list[T]:
    """Return the values of all workers, in the order of their ranks; they must be picklable."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast_buffers(module: nn.Module) -> None:
    """Copy rank 0's buffers to every worker: running statistics, which each worker computes from its own images."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def run_on_rank_zero(function: Callable[[], T]) -> T:
    """Call `function` on rank 0 and broadcast its result, which must be picklable, to every worker.

    Raises:
        MclError: `function` raised it on rank 0; every worker raises it.
        OSError: likewise.
    """
    if world_size() == 1:
        return function()
    outcome = [_attempt(function) if is_rank_zero() else None]
    dist.broadcast_object_list(outcome, src=0)
    value, error = cast("tuple[T, Exception | None]", outcome[0])
    if error is not None:
        raise error
    return value


def run_on_all_ranks(function: Callable[[], T]) -> T:
    """Call `function` on every worker, wait until all have finished, and return this worker's own result.

    Raises:
        MclError: `function` raised it on some worker; every worker raises the error of the lowest such rank.
        OSError: likewise.
    """
    if world_size() == 1:
        return function()
    value, own_error = _attempt(function)
    errors: list[Exception | None] = [None] * world_size()
    dist.all_gather_object(errors, own_error)
    for error in errors:
        if error is not None:
            raise error
    return cast("T", value)


def _has_group() -> bool:
    return dist.is_available() and dist.is_initialized()


def _attempt(function: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """Return (result, None), or (None, error) for an expected error; any other ends this worker, and so all of them."""
    try:
        return function(), None
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
