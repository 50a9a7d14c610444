"""Choice of how workers share a run, by what each of them sends in a step and by its memory.

N peers, n of them on a worker, B images of a worker, C classes, D embedding, W workers of a subgroup.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from mcl_ray.config.parallelism import WorkerSplit, possible_splits
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.dataset import Dataset
from mcl_ray.methods.method import FLOAT_BYTES
from mcl_ray.models.cost import parameter_count, shapes_alone
from mcl_ray.training.build import cohort_of
from mcl_ray.training.costs import Memory, memory_of, method_state_bytes, trained_parameters

MORE_MEMORY = 1.25
"""Memory of a worker, relative to the least of all splits, beyond which `auto` does not choose a split."""


class SplitCost(NamedTuple):
    """Cost of a split, for its busiest worker."""

    split: WorkerSplit
    sent_bytes: int
    """Bytes that it sends in a step, in float32: gradients, outputs, and images whose keys others compute."""
    memory: Memory
    """Its memory."""


class Size(NamedTuple):
    """Sizes of a data set."""

    classes: int
    image_shape: tuple[int, int, int]
    """Channels, height and width in pixels."""
    train_images: int


def chosen_split(run: RunSpec, dataset: Dataset, parallelism: str, workers: int) -> WorkerSplit:
    """Return how so many workers share a run; all workers choose the same.

    Raises:
        SpecError: they cannot, see `possible_splits`.
    """
    splits = possible_splits(run, parallelism, workers)
    if len(splits) == 1:
        return splits[0]
    size = Size(dataset.num_classes, dataset.image_shape, len(dataset.train.labels))
    costs = _by_preference(run, splits, size)
    return costs[0].split if costs else splits[-1]  # whose sampler raises what is wrong


def costs_of_splits(run: RunSpec, parallelism: str, workers: int, size: Size) -> list[SplitCost]:
    """Return the costs of all ways in which so many workers can share a run, the chosen one first.

    Raises:
        SpecError: they cannot in the way that was asked for, see `possible_splits`.
    """
    chosen = possible_splits(run, parallelism, workers)
    others = [split for split in possible_splits(run, "auto", workers) if split not in chosen]
    return _by_preference(run, chosen, size) + _by_preference(run, others, size)


def _by_preference(run: RunSpec, splits: Sequence[WorkerSplit], size: Size) -> list[SplitCost]:
    """Return the costs of splits in the order in which `auto` takes them, without those that no batch has parts for.

    Splits that give all workers as many peers come before those in which some would wait for others, and those that
    need little memory before those that need much; of these, the one that sends least is the first.
    """
    units = run.batch.size if run.batch.sampler == "shuffled" else run.batch.size // run.batch.per_class
    costs = [cost_of_split(run, split, size) for split in splits if split.batch_parts <= units]
    limit = MORE_MEMORY * min((sum(cost.memory) for cost in costs if cost.split.is_even), default=0)
    return sorted(
        costs,
        key=lambda cost: (not cost.split.is_even, sum(cost.memory) > limit, cost.sent_bytes, sum(cost.memory)),
    )


def cost_of_split(run: RunSpec, split: WorkerSplit, size: Size) -> SplitCost:
    """Estimate the cost of a split."""
    images = -(-run.batch.size // split.batch_parts)
    own = _with_peers_of_first(run, split)
    memory = memory_of(own, size.classes, size.image_shape, images, size.train_images)
    if split.splits_peers:  # the method keeps something of all peers, but encoders of its own alone
        of_own, of_all = (method_state_bytes(one, 0, size.train_images) for one in (own, run))
        memory = memory._replace(state=memory.state - of_own + of_all)
    return SplitCost(split, _sent_bytes(run, own, split, size, images), memory)


def _with_peers_of_first(run: RunSpec, split: WorkerSplit) -> RunSpec:
    """Return a run of the peers of the first group alone, which are as many as those of any."""
    if not split.splits_peers:
        return run
    peers = run.cohort.peers[: split.peers[0]]
    sharing = "stem" if run.cohort.shares_stem else "none"
    cohort = run.cohort.model_copy(update={"size": len(peers), "networks": peers, "sharing": sharing})
    losses = run.losses.model_copy(update={"alpha": 1.0}) if run.has_contrast else run.losses  # its heads learn
    return run.model_copy(update={"cohort": cohort, "losses": losses})


def _sent_bytes(run: RunSpec, own: RunSpec, split: WorkerSplit, size: Size, images: int) -> int:
    """Return the bytes that a worker of the first group sends in a step, of `images` images."""
    parts, groups, views = split.batch_parts, len(split.peers), run.num_views
    width = run.cohort.embedding_dim
    outputs = own.cohort.size * images * ((size.classes if run.is_supervised else 0) + views * width)
    sent = (groups - 1) * outputs + _summed(groups) * (_stem_parameters(run, size) if split.splits_peers else 0)
    sent += _summed(parts) * trained_parameters(own, size.classes, size.image_shape)
    if run.has_contrast and run.losses.contrast == "global":
        sent += (parts - 1) * run.cohort.size * images * width
    if views > 1 and run.compute.batch_statistics == "local":
        sent += (parts - 1) * images * prod(size.image_shape)
    return round(FLOAT_BYTES * sent)


def _summed(workers: int) -> float:
    """Return how often each of W workers sends a tensor that is summed over them, by a ring."""
    return 2 * (workers - 1) / workers


def _stem_parameters(run: RunSpec, size: Size) -> int:
    """Return the number of parameters of a shared stem, or 0."""
    if not run.cohort.shares_stem:
        return 0
    with shapes_alone():
        return parameter_count(cohort_of(run, size.classes, size.image_shape[0]).stems)
