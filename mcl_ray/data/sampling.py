"""Samplers: class-balanced and shuffled batches, as rows of indices into the training set.

The samplers use numpy alone, on labels and indices; they neither read images nor import torch.
"""

# B batches, K classes a batch, C classes, m images per class

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mcl_ray.config.spec import BatchSpec
from mcl_ray.errors import SpecError

Ints = NDArray[np.int64]


class ClassBalancedSampler:
    """Batches of K = size / per_class distinct classes with m = per_class images each, reproducible from (seed, epoch).

    Args:
        labels: class of each training image, [n].
        spec: size and sampler of the batches.
        seed: the run's seed.

    Raises:
        SpecError: no such batch can be formed from these images.
    """

    def __init__(self, labels: Ints, spec: BatchSpec, seed: int) -> None:
        counts_C = np.bincount(labels)
        check_batches(counts_C, spec)
        self._spec, self._seed = spec, seed
        self._counts_C = counts_C[counts_C > 0]
        self._starts_C = np.cumsum(self._counts_C) - self._counts_C
        self._labels = labels.astype(np.min_scalar_type(len(counts_C)))  # numpy sorts narrow integers fastest
        self._num_groups_C = -(-self._counts_C // spec.per_class)
        self.num_batches = len(labels) // spec.size

    @property
    def _num_classes_per_batch(self) -> int:
        return self._spec.size // self._spec.per_class

    def epoch(self, epoch: int, rank: int = 0, world_size: int = 1) -> Ints:
        """Return this rank's part of all batches of one epoch, as indices into the training set.

        Every rank computes the same batches and takes a contiguous part of each with whole classes; the concatenation
        of all parts is the batch. The images of a class are adjacent.

        Args:
            epoch: the epoch, from 0.
            rank: rank of this worker.
            world_size: number of workers that share a batch.

        Returns:
            int64 [num_batches, shares(world_size)[rank]].
        """
        shares = self.shares(world_size)
        rng = np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=(epoch,)))
        by_class = self._shuffled_by_class(rng)
        draw = self._reference if self._spec.sampler == "reference" else self._balanced
        classes_BK, positions_BKm = draw(rng)
        indices_BKm = by_class[self._starts_C[classes_BK][..., np.newaxis] + positions_BKm]
        start = sum(shares[:rank])
        return np.ascontiguousarray(indices_BKm.reshape(self.num_batches, -1)[:, start : start + shares[rank]])

    def shares(self, world_size: int) -> tuple[int, ...]:
        """Return the number of images of a batch for each rank: whole classes, distributed as evenly as possible.

        Raises:
            SpecError: there are more ranks than classes in a batch.
        """
        check_batches(self._counts_C, self._spec, world_size)
        classes, more = divmod(self._num_classes_per_batch, world_size)
        return tuple(self._spec.per_class * (classes + (rank < more)) for rank in range(world_size))

    def _shuffled_by_class(self, rng: np.random.Generator) -> Ints:
        """Return the indices of all images, sorted by class and shuffled within each class."""
        order = rng.permutation(len(self._labels))
        return order[np.argsort(self._labels[order], kind="stable")]

    def _reference(self, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Sample as the published code: independent classes for every batch, and independent images of each class."""
        num_classes_per_batch = self._num_classes_per_batch
        keys_BC = rng.random((self.num_batches, len(self._counts_C)))
        classes_BK = np.argsort(keys_BC, axis=1)[:, :num_classes_per_batch]
        return classes_BK, _subsets(rng, self._counts_C[classes_BK], self._spec.per_class)

    def _balanced(self, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Use every image of each class about once per epoch, as far as batches of distinct classes allow.

        A class of n images forms ceil(n / m) groups of m; the last group wraps around to the start of the shuffled
        class. The groups that do not fit into B whole batches are chosen uniformly at random. Batches are then filled
        one after another by systematic sampling (Madow 1949): with `left` remaining batches and r_c remaining groups of
        class c, arrange the classes on a line in random order, each as an interval of length r_c, and select those that
        contain one of the points u + left·k, k < K, for a random u < left.

        Proof that this always succeeds, given r_c <= left and Σ r_c = K·left: the points are `left` apart, so that no
        interval contains two; the line has length K·left, so that each of the K points is in an interval; an interval
        with r_c = left always contains a point, so that r_c <= left - 1 and Σ r_c = K·(left - 1) hold for the next
        batch.
        """
        num_classes_per_batch, per_class = self._num_classes_per_batch, self._spec.per_class
        remaining_C = self._groups_to_use(rng)
        used_C = np.zeros_like(remaining_C)
        classes_BK = np.empty((self.num_batches, num_classes_per_batch), dtype=np.int64)
        groups_BK = np.empty_like(classes_BK)
        steps_K = np.arange(num_classes_per_batch)
        for batch, left in enumerate(range(self.num_batches, 0, -1)):
            order = rng.permutation(len(remaining_C))
            points_K = rng.integers(left) + left * steps_K
            chosen_K = order[np.searchsorted(np.cumsum(remaining_C[order]), points_K, side="right")]
            classes_BK[batch], groups_BK[batch] = chosen_K, used_C[chosen_K]
            used_C[chosen_K] += 1
            remaining_C[chosen_K] -= 1
        positions_BKm = groups_BK[..., np.newaxis] * per_class + np.arange(per_class)
        return classes_BK, positions_BKm % self._counts_C[classes_BK][..., np.newaxis]

    def _groups_to_use(self, rng: np.random.Generator) -> Ints:
        """Return the number of groups of each class in this epoch, [C]: at most B each, B·K in total.

        This is the number of groups that the class has. If large classes are limited to B, small classes are repeated
        to fill the batches, the smallest most often, so that the maximum number of repetitions is minimal.
        """
        budget = self.num_batches * self._num_classes_per_batch
        groups_C = np.minimum(self._num_groups_C, self.num_batches)
        excess = int(groups_C.sum()) - budget
        if excess >= 0:
            return groups_C - rng.multivariate_hypergeometric(groups_C, excess)
        level = _highest_level(groups_C, budget)
        groups_C = np.maximum(groups_C, level)
        lowest = np.flatnonzero(groups_C == level)
        groups_C[rng.choice(lowest, budget - int(groups_C.sum()), replace=False)] += 1
        return groups_C


class ShuffledSampler:
    """Batches of images in random order, each image at most once per epoch, reproducible from (seed, epoch).

    The images that remain after the last whole batch are not used in this epoch.

    Args:
        labels: class of each training image, [n].
        spec: size of the batches.
        seed: the run's seed.

    Raises:
        SpecError: there are fewer images than a batch needs.
    """

    def __init__(self, labels: Ints, spec: BatchSpec, seed: int) -> None:
        self._counts_C = np.bincount(labels)
        check_batches(self._counts_C, spec)
        self._spec, self._seed, self._num_images = spec, seed, len(labels)
        self.num_batches = len(labels) // spec.size

    def epoch(self, epoch: int, rank: int = 0, world_size: int = 1) -> Ints:
        """Return this rank's part of all batches of one epoch, in the form of `ClassBalancedSampler.epoch`."""
        shares = self.shares(world_size)
        rng = np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=(epoch,)))
        whole = rng.permutation(self._num_images)[: self.num_batches * self._spec.size]
        start = sum(shares[:rank])
        return np.ascontiguousarray(whole.reshape(self.num_batches, -1)[:, start : start + shares[rank]])

    def shares(self, world_size: int) -> tuple[int, ...]:
        """Return the number of images of a batch for each rank, distributed as evenly as possible.

        Raises:
            SpecError: there are more ranks than images in a batch.
        """
        check_batches(self._counts_C, self._spec, world_size)
        each, more = divmod(self._spec.size, world_size)
        return tuple(each + (rank < more) for rank in range(world_size))


Sampler = ClassBalancedSampler | ShuffledSampler


def build_sampler(labels: Ints, spec: BatchSpec, seed: int) -> Sampler:
    """Build the sampler of a spec.

    Args:
        labels: class of each training image, [n].
        spec: size and sampler of the batches.
        seed: the run's seed.

    Raises:
        SpecError: no such batch can be formed from these images.
    """
    return (ShuffledSampler if spec.sampler == "shuffled" else ClassBalancedSampler)(labels, spec, seed)


def check_batches(class_counts: Sequence[int] | Ints, spec: BatchSpec, world_size: int = 1) -> None:
    """Check that batches of a spec can be formed from so many images of each class.

    Args:
        class_counts: number of training images of each class, [C]; classes without images are ignored.
        spec: size and sampler of the batches.
        world_size: number of workers that share a batch.

    Raises:
        SpecError: they cannot; the message suggests values that fit.
    """
    counts = np.asarray(class_counts)
    num_images, num_classes, largest = int(counts.sum()), int(np.count_nonzero(counts)), int(counts.max(initial=0))
    size, per_class = spec.size, spec.per_class
    if size > num_images:
        rule, values = "batch.size <= training images", f"size={size}, images={num_images}"
    elif spec.sampler == "shuffled":
        if size >= world_size:
            return
        raise SpecError(f"`workers <= batch.size` must hold, but got size={size}, workers={world_size}.")
    elif size % per_class:
        rule, values = "batch.size % batch.per_class == 0", f"size={size}, per_class={per_class}"
    elif size > per_class * num_classes:
        rule = "batch.size <= batch.per_class * classes"
        values = f"size={size}, per_class={per_class}, classes={num_classes}"
    elif per_class > largest:
        rule, values = "batch.per_class <= images of the largest class", f"per_class={per_class}, images={largest}"
    elif size // per_class < world_size:
        rule = "workers <= batch.size / batch.per_class"
        values = f"size={size}, per_class={per_class}, workers={world_size}"
    else:
        return
    fix = _fix(spec, num_images, num_classes, largest, world_size)
    raise SpecError(f"`{rule}` must hold, but got {values}; {fix}.")


def _fix(spec: BatchSpec, num_images: int, num_classes: int, largest: int, world_size: int) -> str:
    """Suggest values that satisfy every rule: the smallest per_class for this size, or else a smaller size."""
    if spec.sampler == "shuffled":
        fits = f"size={num_images} fits" if num_images >= world_size else "no size fits"
        return f"{fits} {num_images} images on {world_size} workers"
    if spec.size <= num_images:
        for per_class in range(2, min(largest, spec.size) + 1):
            classes, rest = divmod(spec.size, per_class)
            if not rest and world_size <= classes <= num_classes:
                return f"per_class={per_class} fits"
    for per_class in (spec.per_class, 2):
        classes = min(num_classes, max(world_size, spec.size // per_class), num_images // per_class)
        if classes >= world_size and per_class <= largest:
            return f"size={per_class * classes} fits with per_class={per_class}"
    return f"no size fits {num_images} images of {num_classes} classes on {world_size} workers"


def _highest_level(groups_C: Ints, budget: int) -> int:
    """Return the highest level with Σ max(g_c, level) <= budget."""
    low, high = 0, budget
    while low < high:
        middle = (low + high + 1) // 2
        if np.maximum(groups_C, middle).sum() <= budget:
            low = middle
        else:
            high = middle - 1
    return low


def _subsets(rng: np.random.Generator, counts: Ints, size: int) -> Ints:
    """Draw `size` distinct numbers below n, uniformly (Floyd's algorithm), for each n of `counts`.

    Numbers repeat where n < size.

    Shape:
        counts: [...]; returns [..., size].
    """
    subsets = np.empty((*counts.shape, size), dtype=np.int64)
    distinct = counts >= size
    for step in range(size):
        last = np.where(distinct, counts - size + step, counts - 1)
        drawn = rng.integers(last + 1)
        taken = (subsets[..., :step] == drawn[..., np.newaxis]).any(axis=-1) & distinct
        subsets[..., step] = np.where(taken, last, drawn)
    return subsets
