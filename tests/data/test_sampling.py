from __future__ import annotations

import subprocess
import sys
from typing import Literal

import numpy as np
import pytest

from mcl_ray.config.spec import BatchSpec
from mcl_ray.data.sampling import ClassBalancedSampler, check_batches
from mcl_ray.errors import SpecError

Kind = Literal["reference", "balanced"]
KINDS: tuple[Kind, ...] = ("reference", "balanced")
CIFAR = np.random.default_rng(0).permutation(np.repeat(np.arange(100), 500))


def labels_of(counts: object) -> np.ndarray:
    counts = np.asarray(counts)
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))


def check_epoch(batches: np.ndarray, labels: np.ndarray, spec: BatchSpec) -> None:
    """Slow and evident: every batch has distinct classes, side by side, each with per_class images of its own."""
    assert batches.dtype == np.int64
    assert batches.shape[1] == spec.size
    for batch in batches:
        groups = batch.reshape(-1, spec.per_class)
        classes = [set(labels[group]) for group in groups]
        assert all(len(of_group) == 1 for of_group in classes)
        assert len(set.union(*classes)) == len(groups)
        for group, of_group in zip(groups, classes, strict=True):
            available = int((labels == next(iter(of_group))).sum())
            if available >= spec.per_class:
                assert len(set(group)) == spec.per_class
            elif spec.sampler == "balanced":
                assert len(set(group)) == available


def check_balance(batches: np.ndarray, labels: np.ndarray, spec: BatchSpec) -> None:
    """No class goes round again while another has groups to spare, unless that one is in every batch."""
    classes = np.unique(labels)
    used = {c: int((labels[batches[:, :: spec.per_class]] == c).sum()) for c in classes}
    has = {c: -(-int((labels == c).sum()) // spec.per_class) for c in classes}
    rounds = [used[c] for c in classes if used[c] > has[c]]
    assert not rounds or all(used[c] >= min(has[c], len(batches)) for c in classes)
    assert not rounds or max(rounds) - min(rounds) <= 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("per_class", [2, 4, 8])
def test_batches_of_cifar(kind: Kind, per_class: int) -> None:
    spec = BatchSpec(size=128, per_class=per_class, sampler=kind)
    sampler = ClassBalancedSampler(CIFAR, spec, seed=0)
    batches = sampler.epoch(0)
    assert len(batches) == sampler.num_batches == 390
    check_epoch(batches, CIFAR, spec)
    times_seen = np.bincount(batches.ravel(), minlength=len(CIFAR))
    if kind == "balanced":
        assert times_seen.max() <= 2
        assert (times_seen > 0).mean() >= 0.98
        assert np.ptp(np.bincount(CIFAR[batches.ravel()])) <= 5 * per_class
    else:
        assert (times_seen > 0).mean() == pytest.approx(1 - np.exp(-1), abs=0.005)


def test_balanced_on_random_configurations() -> None:
    rng = np.random.default_rng(1)
    tried = 0
    while tried < 150:
        counts = rng.integers(0, rng.integers(2, 40), rng.integers(2, 30)).tolist()
        per_class = int(rng.integers(2, 6))
        spec = BatchSpec(size=per_class * int(rng.integers(1, len(counts) + 1)), per_class=per_class)
        try:
            check_batches(counts, spec)
        except SpecError:
            continue
        tried += 1
        labels = labels_of(counts)
        sampler = ClassBalancedSampler(labels, spec, seed=tried)
        batches = sampler.epoch(tried)
        assert len(batches) == sampler.num_batches == len(labels) // spec.size
        check_epoch(batches, labels, spec)
        check_balance(batches, labels, spec)


def test_reference_on_random_configurations() -> None:
    rng = np.random.default_rng(2)
    for seed in range(60):
        counts = rng.integers(1, 30, rng.integers(4, 30))
        per_class = int(rng.integers(2, 5))
        spec = BatchSpec(size=per_class * int(rng.integers(1, 5)), per_class=per_class, sampler="reference")
        labels = labels_of(counts)
        if counts.max() < per_class or counts.sum() < spec.size:
            continue
        batches = ClassBalancedSampler(labels, spec, seed).epoch(0)
        assert len(batches) == len(labels) // spec.size
        check_epoch(batches, labels, spec)


def test_whole_groups_of_even_classes_are_seen_exactly_once() -> None:
    labels = labels_of([20] * 8)
    batches = ClassBalancedSampler(labels, BatchSpec(size=16, per_class=4), seed=0).epoch(0)
    assert sorted(batches.ravel()) == list(range(160))


def test_small_classes_go_round_again_where_every_batch_needs_them() -> None:
    labels = labels_of([40, 4, 4, 4])
    batches = ClassBalancedSampler(labels, BatchSpec(size=8, per_class=2), seed=0).epoch(0)
    times_seen = np.bincount(batches.ravel(), minlength=52)
    assert len(batches) == 6
    assert sorted(times_seen[labels == 0]) == [0] * 28 + [1] * 12
    assert set(times_seen[labels != 0]) == {3}


def test_every_image_is_left_out_as_often_as_any_other() -> None:
    labels = labels_of([10] * 10)  # 50 groups, 7 batches of 7 classes: one group of two images left out
    sampler = ClassBalancedSampler(labels, BatchSpec(size=14), seed=0)
    seen = sum(np.bincount(sampler.epoch(epoch).ravel(), minlength=100) for epoch in range(2000))
    np.testing.assert_allclose(2000 - seen, 40, atol=30)


def test_reference_draws_classes_and_images_uniformly() -> None:
    labels = labels_of([4, 6, 8])
    sampler = ClassBalancedSampler(labels, BatchSpec(size=6, per_class=3, sampler="reference"), seed=0)
    draws = np.concatenate([sampler.epoch(epoch) for epoch in range(4000)])
    share_of_image = np.bincount(draws.ravel(), minlength=18) / len(draws)
    np.testing.assert_allclose(share_of_image, 2 / 3 * 3 / np.bincount(labels)[labels], atol=0.02)


def test_a_small_class_is_drawn_from_with_replacement() -> None:
    labels = labels_of([2, 8, 8])
    sampler = ClassBalancedSampler(labels, BatchSpec(size=12, per_class=4, sampler="reference"), seed=0)
    groups = np.concatenate([sampler.epoch(epoch) for epoch in range(4000)]).reshape(-1, 4)
    of_small = groups[labels[groups[:, 0]] == 0]
    alike = (of_small == of_small[:, :1]).all(axis=1)
    assert alike.mean() == pytest.approx(1 / 8, abs=0.025)


def test_balanced_draws_each_class_in_proportion_to_what_is_left_of_it() -> None:
    labels = labels_of([2, 6, 8, 8])
    sampler = ClassBalancedSampler(labels, BatchSpec(size=6), seed=0)
    first = [set(labels[sampler.epoch(epoch)[0]]) for epoch in range(2000)]
    shares = [np.mean([label in classes for classes in first]) for label in range(4)]
    np.testing.assert_allclose(shares, [1 / 4, 3 / 4, 1, 1], atol=0.05)


def test_balanced_brings_any_two_classes_together() -> None:
    labels = labels_of([40] * 6)
    sampler = ClassBalancedSampler(labels, BatchSpec(size=6), seed=0)
    together = np.zeros((6, 6))
    for batch in np.concatenate([sampler.epoch(epoch) for epoch in range(100)]):
        classes = labels[batch[::2]]
        together[np.ix_(classes, classes)] += 1
    np.testing.assert_allclose(together[~np.eye(6, dtype=bool)] / 4000, 0.2, atol=0.05)


def test_a_class_that_is_too_small_repeats_its_images() -> None:
    labels = labels_of([1, 3, 9, 9])
    for kind in KINDS:
        spec = BatchSpec(size=16, per_class=4, sampler=kind)
        sampler = ClassBalancedSampler(labels, spec, seed=0)
        groups = sampler.epoch(0).reshape(-1, 4)
        alone = groups[labels[groups[:, 0]] == 0]
        assert len(alone) == sampler.num_batches
        assert len(np.unique(alone)) == 1


def test_classes_without_images_are_never_drawn() -> None:
    labels = np.array([1, 1, 1, 1, 5, 5, 5, 5])
    for kind in KINDS:
        batches = ClassBalancedSampler(labels, BatchSpec(size=4, per_class=2, sampler=kind), seed=0).epoch(0)
        assert batches.shape == (2, 4)
        assert all(set(labels[batch]) == {1, 5} for batch in batches)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 7, 16])
def test_the_parts_of_the_ranks_are_the_batch(kind: Kind, world_size: int) -> None:
    sampler = ClassBalancedSampler(labels_of([30] * 20), BatchSpec(size=48, per_class=3, sampler=kind), seed=0)
    parts = [sampler.epoch(3, rank, world_size) for rank in range(world_size)]
    sizes = [part.shape[1] for part in parts]
    assert tuple(sizes) == sampler.shares(world_size)
    assert all(size % 3 == 0 for size in sizes)
    assert max(sizes) - min(sizes) <= 3
    assert all(len(part) == sampler.num_batches for part in parts)
    assert all(part.flags.c_contiguous for part in parts)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), sampler.epoch(3))


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_follows_seed_and_number_only(kind: Kind) -> None:
    spec = BatchSpec(size=20, sampler=kind)
    labels = labels_of([20] * 10)
    sampler = ClassBalancedSampler(labels, spec, seed=7)
    first = sampler.epoch(1)
    sampler.epoch(2)
    np.testing.assert_array_equal(first, sampler.epoch(1))
    np.testing.assert_array_equal(first, ClassBalancedSampler(labels, spec, seed=7).epoch(1))
    assert (first != sampler.epoch(2)).mean() > 0.5
    assert (first != ClassBalancedSampler(labels, spec, seed=8).epoch(1)).mean() > 0.5
    assert (first != ClassBalancedSampler(labels, spec, seed=1).epoch(7)).mean() > 0.5


@pytest.mark.parametrize(
    ("counts", "size", "per_class", "world_size", "message"),
    [
        (
            [500] * 100,
            256,
            2,
            1,
            "`batch.size <= batch.per_class * classes` must hold, but got size=256, per_class=2, "
            "classes=100; per_class=4 fits.",
        ),
        ([500] * 100, 256, 2, 64, "per_class=2, classes=100; per_class=4 fits."),
        ([500] * 100, 256, 2, 65, "classes=100; size=200 fits with per_class=2."),
        (
            [500] * 100,
            128,
            2,
            65,
            "`workers <= batch.size / batch.per_class` must hold, but got size=128, "
            "per_class=2, workers=65; size=130 fits with per_class=2.",
        ),
        ([500] * 100, 120, 8, 16, "per_class=8, workers=16; per_class=2 fits."),
        (
            [5] * 10,
            64,
            8,
            1,
            "`batch.size <= training images` must hold, but got size=64, images=50; size=20 fits with per_class=2.",
        ),
        (
            [5, 4, 5],
            12,
            6,
            1,
            "`batch.per_class <= images of the largest class` must hold, but got per_class=6, images=5; "
            "per_class=4 fits.",
        ),
        ([1, 1, 1, 1], 2, 2, 1, "images=1; no size fits 4 images of 4 classes on 1 workers."),
        ([9, 0, 0, 9], 8, 2, 1, "size=8, per_class=2, classes=2; per_class=4 fits."),
        ([9, 9], 4, 2, 4, "workers=4; no size fits 18 images of 2 classes on 4 workers."),
        ([], 4, 2, 1, "images=0; no size fits"),
    ],
)
def test_rules(counts: list[int], size: int, per_class: int, world_size: int, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        check_batches(counts, BatchSpec(size=size, per_class=per_class), world_size)
    assert message in str(caught.value)


def test_a_size_that_no_spec_can_have() -> None:
    spec = BatchSpec().model_copy(update={"size": 9})
    with pytest.raises(SpecError, match=r"size=9, per_class=2; per_class=3 fits\.$"):
        check_batches([10] * 10, spec)


def test_what_is_proposed_is_accepted() -> None:
    rng = np.random.default_rng(3)
    proposed = 0
    for _ in range(2000):
        counts = rng.integers(0, 20, rng.integers(1, 20)).tolist()
        per_class, world_size = int(rng.integers(2, 10)), int(rng.integers(1, 9))
        spec = BatchSpec(size=per_class * int(rng.integers(1, 20)), per_class=per_class)
        try:
            check_batches(counts, spec, world_size)
        except SpecError as error:
            fix = str(error).partition("; ")[2].rstrip(".")
            if fix.startswith("no size fits"):
                continue
            update = {name: int(number) for name, _, number in (word.partition("=") for word in fix.split()) if number}
            check_batches(counts, BatchSpec.model_validate(spec.model_dump() | update), world_size)
            proposed += 1
    assert proposed > 500


def test_the_rules_hold_in_the_sampler_and_in_its_epochs() -> None:
    with pytest.raises(SpecError, match="per_class=4 fits"):
        ClassBalancedSampler(CIFAR, BatchSpec(size=256), seed=0)
    with pytest.raises(SpecError, match="workers=65"):
        ClassBalancedSampler(CIFAR, BatchSpec(size=128), seed=0).epoch(0, 0, 65)


def test_reading_and_sampling_do_without_torch() -> None:
    code = "import sys, mcl_ray.data.sampling, mcl_ray.data.source; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_of_shuffled_batches_what_fits_has_no_classes():
    shuffled = BatchSpec(size=16, sampler="shuffled")
    with pytest.raises(SpecError, match="size=16, images=2; size=2 fits 2 images on 1 workers"):
        check_batches([1, 1], shuffled)
    with pytest.raises(SpecError, match="no size fits 2 images on 3 workers"):
        check_batches([1, 1], shuffled, 3)
