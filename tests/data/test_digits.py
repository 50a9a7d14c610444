from __future__ import annotations

import numpy as np
from sklearn import datasets
from sklearn.model_selection import train_test_split

from mcl_ray.config.registry import DATASETS
from mcl_ray.data.digits import DIGITS_TRAIN, load_digits


def test_digits_are_what_the_catalog_says() -> None:
    digits, entry = load_digits(), DATASETS["digits"].size
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


def test_the_split_is_scikit_learns_stratified_one() -> None:
    raw, digits = datasets.load_digits(), load_digits()
    train, test = train_test_split(np.arange(1797), test_size=0.2, stratify=raw.target, random_state=0)
    np.testing.assert_array_equal(digits.train.labels, raw.target[np.sort(train)])
    np.testing.assert_array_equal(digits.test.labels, raw.target[np.sort(test)])
    np.testing.assert_array_equal(digits.test.images[:, 0], np.rint(raw.images[np.sort(test)] * (255 / 16)))


def test_the_training_images_of_each_class_are_known_beforehand():
    assert np.bincount(load_digits().train.labels).tolist() == list(DIGITS_TRAIN)
