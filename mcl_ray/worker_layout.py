"""The place of this worker in the split of a run: with whom it shares the batch, and with whom the cohort."""

from __future__ import annotations

from dataclasses import dataclass

import torch.distributed as dist

from mcl_ray.config.parallelism import WorkerSplit
from mcl_ray.distributed import Subgroup, all_workers, rank, world_size


@dataclass(frozen=True)
class WorkerLayout:
    """A split of a run, and this worker's subgroups in it."""

    split: WorkerSplit
    batch: Subgroup
    """Workers that train the same peers as this one, each on another part of every batch."""
    cohort: Subgroup
    """Workers that train on the same part of every batch as this one, each other peers."""

    @property
    def peers(self) -> range:
        """Indices of this worker's peers."""
        return self.split.peers_of(self.cohort.rank)


def all_peers_on_each_worker(num_peers: int) -> WorkerLayout:
    """Return the layout in which each worker trains all peers on a part of every batch; in one process, of the whole.

    Args:
        num_peers: number of peers of the cohort.
    """
    return WorkerLayout(WorkerSplit((num_peers,), world_size()), all_workers(), Subgroup(0, 1))


def layout_of(split: WorkerSplit) -> WorkerLayout:
    """Form the subgroups of a split; every worker must call this."""
    assert split.workers == world_size(), "a split is of all workers"
    parts = split.batch_parts
    if not split.splits_peers:
        return all_peers_on_each_worker(split.peers[0])
    if parts == 1:
        return WorkerLayout(split, Subgroup(0, 1), all_workers())
    of_batch = [[*range(first, first + parts)] for first in range(0, split.workers, parts)]
    of_cohort = [[*range(part, split.workers, parts)] for part in range(parts)]
    group, part = divmod(rank(), parts)
    return WorkerLayout(
        split,
        batch=Subgroup(part, parts, _own_group(of_batch)),
        cohort=Subgroup(group, len(split.peers), _own_group(of_cohort)),
    )


def _own_group(ranks: list[list[int]]) -> dist.ProcessGroup:
    """Form process groups of these ranks, and return the one of this worker."""
    own, _ = dist.new_subgroups_by_enumeration(ranks)
    assert isinstance(own, dist.ProcessGroup), "every worker is in one of them"
    return own
