"""Ranks and collectives of the workers that train one run together.

All functions use torch's default process group, which a command or Ray has initialised, or a part of it, a `Subgroup`;
in a single process they do nothing. The training loop and the methods decide what is exchanged and when.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar, cast

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
class Subgroup:
    """Workers that exchange tensors with each other, this one among them: all workers, or a part of them."""

    rank: int
    """Rank of this worker among them, from 0."""
    size: int
    """Number of them, W."""
    process_group: dist.ProcessGroup | None = None
    """Their process group; None: torch's default group, that of all workers."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the same object: a process group has no copies."""
        return self


def all_workers() -> Subgroup:
    """Return the workers of the run, all of them."""
    return Subgroup(rank(), world_size())


@dataclass(frozen=True)
class BatchShards:
    """Split of a batch into contiguous shards, one per worker, in the order of their ranks."""

    sizes: tuple[int, ...]
    """[W], number of images of each worker."""
    workers: Subgroup | None = None
    """The workers; None: all of them."""

    @property
    def mine(self) -> int:
        """Number of images of this worker."""
        return self.sizes[self._rank]

    @property
    def start(self) -> int:
        """Index of this worker's first image in the whole batch."""
        return sum(self.sizes[: self._rank])

    @property
    def _rank(self) -> int:
        return rank() if self.workers is None else self.workers.rank

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
    """Concatenate the tensors of all workers of a batch along `dim`, in the order of their ranks; differentiable.

    The tensors have the same shape, except along `dim`, where their lengths are `shares.sizes`.

    The gradient is correct under two conditions: every worker computes the same function of the whole, such as a loss
    over the global batch, and gradients of parameters are averaged over the workers, as DistributedDataParallel does.
    Then the backward pass needs no exchange: W times this worker's own slice of the gradient gives the exact average.
    """
    if len(shares.sizes) == 1:
        return part
    workers = shares.workers or all_workers()
    return cast("Tensor", _Gather.apply(part, shares.sizes, workers, dim, len(shares.sizes)))


def concatenate(part: Tensor, sizes: tuple[int, ...], workers: Subgroup) -> Tensor:
    """Concatenate all workers' tensors along their first dimension, in the order of their ranks; differentiable.

    The gradient is correct under two conditions: every worker computes the same function of the whole, and no gradient
    is exchanged, as each parameter belongs to one worker. Then this worker's own slice of the gradient is exact.

    Args:
        part: tensor of this worker; of the same shape on every worker, except for its first dimension.
        sizes: length of each worker's first dimension, [W].
        workers: the workers.
    """
    return cast("Tensor", _Gather.apply(part, sizes, workers, 0, 1)) if workers.size > 1 else part


def all_reduce_sum(part: Tensor, workers: Subgroup | None = None) -> Tensor:
    """Return the sum of the tensors, of one shape, of all workers, or of some.

    It is differentiable: its gradient is the sum of these workers' gradients.
    """
    workers = workers or all_workers()
    return cast("Tensor", _Sum.apply(part, workers.process_group)) if workers.size > 1 else part


def all_reduce_sum_(values: Tensor, workers: Subgroup) -> Tensor:
    """Replace `values` in place by their sum over the workers; not differentiable."""
    if workers.size > 1:
        dist.all_reduce(values, group=workers.process_group)
    return values


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


def send_to_first(tensors: Mapping[str, Any], workers: Subgroup) -> dict[str, Any]:
    """Return the entries of all workers on the one of rank 0, on the CPU; nothing on the others.

    Args:
        tensors: name → tensor, or plain data with tensors; if several workers have a name, the lowest rank's counts.
        workers: the workers.
    """
    if workers.size == 1:
        return dict(tensors)
    buffer = io.BytesIO()
    torch.save(dict(tensors), buffer)
    received: list[Any] | None = [None] * workers.size if workers.rank == 0 else None
    dist.gather_object(buffer.getvalue(), received, group=workers.process_group, group_dst=0)
    found: dict[str, Any] = {}
    for content in received or ():
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True) | found
    return found


def broadcast_buffers(module: nn.Module, workers: Subgroup | None = None) -> None:
    """Copy the buffers of rank 0 to all workers, or to some.

    They are running statistics, which each worker computes from its own images.
    """
    workers = workers or all_workers()
    if workers.size > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, group=workers.process_group, group_src=0)


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
    def forward(
        ctx: Any, part: Tensor, sizes: tuple[int, ...], workers: Subgroup, dim: int, gradient_scale: int
    ) -> Tensor:
        ctx.start, ctx.mine = sum(sizes[: workers.rank]), sizes[workers.rank]
        ctx.dim, ctx.gradient_scale = dim, gradient_scale
        missing = max(sizes) - ctx.mine  # gloo exchanges equal shapes
        padded = torch.cat([part, part.narrow(dim, 0, missing)], dim) if missing else part.contiguous()
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded, group=workers.process_group)
        return torch.cat([one.narrow(dim, 0, size) for one, size in zip(parts, sizes, strict=True)], dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        own = gradients[0].narrow(ctx.dim, ctx.start, ctx.mine)
        return own * ctx.gradient_scale, None, None, None, None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, process_group: dist.ProcessGroup | None) -> Tensor:
        ctx.process_group = process_group
        return _sum(part, process_group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _sum(gradients[0], ctx.process_group), None


def _sum(part: Tensor, process_group: dist.ProcessGroup | None) -> Tensor:
    total = part.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=process_group)
    return total
