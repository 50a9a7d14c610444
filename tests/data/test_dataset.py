from __future__ import annotations

import numpy as np
import pytest

from mcl_ray.data.dataset import ImageSet, channel_statistics, hold_out
from mcl_ray.errors import DataError


def images_of(*counts: int) -> ImageSet:
    """Shuffled images of the given classes, each with its own content."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    numbers = np.arange(len(labels))
    images = np.stack([numbers // 256, numbers % 256], axis=1).astype(np.uint8).reshape(-1, 2, 1, 1)
    return ImageSet(images=images, labels=labels)


def numbers_of(images: ImageSet) -> list[int]:
    pairs = images.images.reshape(-1, 2).astype(int)
    return list(pairs[:, 0] * 256 + pairs[:, 1])


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.25, 0.5])
def test_every_class_gives_its_share(fraction: float) -> None:
    counts = (100, 40, 7, 3, 2, 1)
    train, validation = hold_out(images_of(*counts), fraction, seed=0)
    assert validation is not None
    for label, count in enumerate(counts):
        given = int((validation.labels == label).sum())
        assert given + int((train.labels == label).sum()) == count
        assert given == (0 if count == 1 else min(max(round(fraction * count), 1), count - 1))


def test_the_parts_are_disjoint_and_keep_images_with_their_labels() -> None:
    whole = images_of(50, 30, 20)
    train, validation = hold_out(whole, 0.2, seed=0)
    assert validation is not None
    numbers = numbers_of(train) + numbers_of(validation)
    assert sorted(numbers) == list(range(100))
    assert list(whole.labels[numbers]) == [*train.labels, *validation.labels]
    assert numbers_of(train) == sorted(numbers_of(train))


def test_the_split_follows_its_seed_only() -> None:
    first, again, other = (hold_out(images_of(50, 50), 0.2, seed)[1] for seed in (3, 3, 4))
    assert first is not None
    assert again is not None
    assert other is not None
    assert numbers_of(first) == numbers_of(again)
    assert numbers_of(first) != numbers_of(other)


def test_nothing_held_out() -> None:
    whole = images_of(5, 5)
    assert hold_out(whole, 0.0, seed=0) == (whole, None)
    with pytest.raises(DataError, match=r"validation_fraction=0"):
        hold_out(images_of(1, 1, 1), 0.5, seed=0)


def test_statistics_are_those_of_the_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (1500, 3, 4, 5), dtype=np.uint8)
    images[:, 1] //= 3
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std(axis=(0, 2, 3)), rtol=1e-12)


def test_a_channel_that_never_varies_is_refused() -> None:
    with pytest.raises(DataError, match=r"must vary"):
        channel_statistics(np.full((4, 1, 2, 2), 7, dtype=np.uint8))
