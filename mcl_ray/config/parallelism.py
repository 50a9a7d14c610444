"""Splits of a run over workers: parts of every batch, peers of the cohort, or both.

Workers are numbered so that those that train the same peers are neighbours: they exchange the most, the gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import SpecError


@dataclass(frozen=True)
class WorkerSplit:
    """A split of a run over workers: groups of them train different peers, each worker of a group a part of the batch.

    Worker g·D + d is the one of group g that has part d of every batch, of D parts.
    """

    peers: tuple[int, ...]
    """Number of peers of each group."""
    batch_parts: int
    """Number of parts of a batch, D: workers of a group."""

    @property
    def workers(self) -> int:
        """Number of workers."""
        return len(self.peers) * self.batch_parts

    @property
    def splits_peers(self) -> bool:
        """Return whether the peers are on different workers."""
        return len(self.peers) > 1

    @property
    def is_even(self) -> bool:
        """Return whether every worker has as many peers as the others."""
        return len(set(self.peers)) == 1

    def peers_of(self, group: int) -> range:
        """Return the indices of a group's peers in the cohort."""
        end = [*accumulate(self.peers)][group]
        return range(end - self.peers[group], end)

    def __str__(self) -> str:
        batch = f"{self.batch_parts} parts of every batch" if self.batch_parts > 1 else "the whole batch"
        if not self.splits_peers:
            return f"all peers, {batch}"
        numbers = " or ".join(map(str, sorted(set(self.peers))))
        return f"{numbers} of {sum(self.peers)} peers, {batch}"


def possible_splits(run: RunSpec, parallelism: str, workers: int) -> list[WorkerSplit]:
    """Return the splits of a run over so many workers that an option allows, the best one of `cohort` first.

    Of `cohort` there is one, with the least work for the busiest worker. `auto` considers all, and `data` last.

    Raises:
        SpecError: the peers cannot be on different workers.
    """
    data = WorkerSplit((run.cohort.size,), workers)
    if workers == 1 or parallelism == "data":
        return [data]
    apart = [*_cohort_splits(run, workers)] if run.method_entry.splits_peers else []
    if parallelism == "auto":
        return [*apart, data]
    if not run.method_entry.splits_peers:
        raise SpecError(f"`parallelism=cohort` requires a method that trains peers apart, but got method={run.method}")
    if not apart:
        raise SpecError(
            "`parallelism=cohort` requires a number of workers that a number from 2 to `cohort.size` divides, but got "
            f"workers={workers}, cohort.size={run.cohort.size}"
        )
    return apart[:1]


def most_batch_parts(run: RunSpec, parallelism: str, workers: tuple[int, int]) -> int:
    """Return into how many parts a batch must at least be divisible, for every number of workers from one to another.

    Raises:
        SpecError: some of these numbers of workers cannot share the run.
    """
    fewest, most = workers
    return max(
        min(split.batch_parts for split in possible_splits(run, parallelism, number))
        for number in range(fewest, most + 1)
    )


def _cohort_splits(run: RunSpec, workers: int) -> Iterator[WorkerSplit]:
    """Yield the splits with peers on different workers, those with the least work for the busiest worker first."""
    size = run.cohort.size
    groups = [number for number in range(2, min(size, workers) + 1) if workers % number == 0]
    for number in sorted(groups, key=lambda number: (-(-size // number) * number, -number)):
        each, more = divmod(size, number)
        yield WorkerSplit(tuple(each + (group < more) for group in range(number)), workers // number)
