"""The digits data set of scikit-learn: small, for quick trials, without a download."""

from __future__ import annotations

import numpy as np

from mcl_ray.data.dataset import Dataset, ImageSet, channel_statistics

TEST_FRACTION = 0.2
DIGITS_TRAIN = (142, 146, 142, 146, 145, 145, 145, 143, 139, 144)
"""Number of training images of each class, known without importing scikit-learn, which takes a second."""
BRIGHTEST = 16
"""Maximum pixel value in scikit-learn's data."""


def load_digits() -> Dataset:
    """Load 1,797 handwritten digits of 1×8×8 pixels in a fixed stratified split: 1,437 for training, 360 for test."""
    from sklearn import datasets, model_selection  # takes a second, and only this source needs it

    digits = datasets.load_digits()
    images = np.rint(digits.images[:, np.newaxis] * (255 / BRIGHTEST)).astype(np.uint8)
    everything = ImageSet(images=images, labels=digits.target.astype(np.int64))
    train, test = model_selection.train_test_split(
        np.arange(len(everything)), test_size=TEST_FRACTION, stratify=everything.labels, random_state=0
    )
    train_set = everything.subset(np.sort(train))
    mean, std = channel_statistics(train_set.images)
    return Dataset(
        name="digits",
        class_names=tuple(str(name) for name in digits.target_names),
        mean=mean,
        std=std,
        train=train_set,
        test=everything.subset(np.sort(test)),
    )
