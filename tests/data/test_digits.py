from __future__ import annotations

import numpy as np
from sklearn import datasets

from mcl_ray.config.registry import DATASETS
from mcl_ray.data.digits import DIGITS_TRAIN, load_digits


def test_digits_are_what_the_catalog_says() -> None:
    digits, entry = load_digits(), DATASETS["digits"]
    assert (len(digits.train), len(digits.test)) == (entry.num_train, entry.num_test)
    assert (digits.num_classes, digits.image_shape) == (entry.num_classes, entry.image_shape)
    assert digits.class_names == tuple("0123456789")
    assert (digits.train.images.max(), digits.train.images.min()) == (255, 0)
    shares = np.bincount(digits.test.labels) / np.bincount(digits.train.labels)
    np.testing.assert_allclose(shares, 0.25, atol=0.01)


def test_every_image_is_used_once() -> None:
    digits = load_digits()
    raw = datasets.load_digits()
    expected = sorted((tuple(image.ravel()), label) for image, label in zip(raw.images, raw.target, strict=True))
    found = sorted(
        (tuple(np.rint(image.ravel() * 16.0 / 255)), label)
        for part in (digits.train, digits.test)
        for image, label in zip(part.images, part.labels, strict=True)
    )
    assert found == expected


def test_the_split_is_fixed() -> None:
    first, again = load_digits(), load_digits()
    np.testing.assert_array_equal(first.test.images, again.test.images)


def test_the_training_images_of_each_class_are_known_beforehand():
    assert np.bincount(load_digits().train.labels).tolist() == list(DIGITS_TRAIN)
