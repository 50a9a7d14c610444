"""Data sets of `torchvision.datasets` that fit into memory, which torchvision downloads and reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcl_ray.data.dataset import Dataset, ImageSet, channel_statistics
from mcl_ray.errors import DataError

TORCHVISION = {
    "MNIST": "MNIST/raw/train-images-idx3-ubyte*",
    "FashionMNIST": "FashionMNIST/raw/train-images-idx3-ubyte*",
    "KMNIST": "KMNIST/raw/train-images-idx3-ubyte*",
    "USPS": "usps.bz2",
    "SVHN": "train_32x32.mat",
    "STL10": "stl10_binary/train_X.bin",
}
"""Class in `torchvision.datasets` → pattern of a file below the folder that has it."""
BY_SPLIT = ("SVHN", "STL10")
"""Data sets that take `split` rather than `train`."""


def is_downloaded(name: str, folder: Path) -> bool:
    """Return whether torchvision has downloaded a data set into a folder."""
    return folder.is_dir() and any(folder.glob(TORCHVISION[name]))


def load_torchvision(name: str, folder: Path, *, download: bool) -> Dataset:
    """Load a data set by the name of its class in `torchvision.datasets`.

    Args:
        name: the class.
        folder: torchvision's `root`.
        download: whether it is downloaded if it is missing.

    Raises:
        DataError: it is missing or damaged, or cannot be downloaded.
    """
    from torchvision import datasets  # imports torch, which reading other sources does not need

    parts: dict[str, Any] = {}
    for split in ("train", "test"):
        options = {"split": split} if name in BY_SPLIT else {"train": split == "train"}
        try:
            parts[split] = getattr(datasets, name)(root=str(folder), download=download, **options)
        except Exception as error:  # network, disk, server, or a damaged file: the remedy is the same
            remedy = "" if download else "; let --download fetch it"
            reason = str(error) or type(error).__name__
            raise DataError(f"torchvision's {name} cannot be read from {folder}: {reason}{remedy}") from error
    train, test = (
        ImageSet(images=_images(np.asarray(part.data)), labels=_labels(part))
        for part in (parts["train"], parts["test"])
    )
    classes = tuple(map(str, getattr(parts["train"], "classes", None) or range(int(train.labels.max()) + 1)))
    _check(train, test, num_classes=len(classes), name=f"torchvision's {name} in {folder}")
    mean, std = channel_statistics(train.images)
    return Dataset(name=name, class_names=classes, mean=mean, std=std, train=train, test=test)


def _check(*splits: ImageSet, num_classes: int, name: str) -> None:
    """Check that every image has a label of a class, which torchvision leaves to its caller."""
    for split in splits:
        images, labels = len(split.images), len(split.labels)
        if images != labels or not labels:
            raise DataError(
                f"there must be images, each with one label, but {name} has {images} and {labels} labels in a split"
            )
        if split.labels.min() < 0 or split.labels.max() >= num_classes:
            raise DataError(
                f"`0 <= label < {num_classes}` must hold, but {name} has {split.labels.min()} to {split.labels.max()}"
            )


def _images(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images [n, H, W] or [n, 3, H, W] as [n, C, H, W]."""
    return np.ascontiguousarray(images[:, np.newaxis] if images.ndim == 3 else images)


def _labels(part: Any) -> NDArray[np.int64]:
    return np.asarray(part.labels if hasattr(part, "labels") else part.targets, dtype=np.int64)
