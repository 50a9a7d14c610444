"""CIFAR-100, CIFAR-10, and data sets in the python layout of either: an archive or a folder of pickles.

Files are verified by checksum before they are unpickled, by `unpickle`, which executes no code from them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mcl_ray.data import archive as archives
from mcl_ray.data.archive import SUFFIXES, unpack_files
from mcl_ray.data.dataset import Dataset, ImageSet, Statistics, channel_statistics
from mcl_ray.data.unpickle import Plain, read_pickle
from mcl_ray.errors import DataError

IMAGE_SHAPE = (3, 32, 32)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A python layout of CIFAR."""

    source: str
    """Name in `data.source`."""
    title: str
    """Name of the published data set."""
    stem: str
    """Name of the published archive without its suffix."""
    folder: str
    """Folder in the archive."""
    train: tuple[str, ...]
    """Files with the training images, in order."""
    test: str
    """File with the test images."""
    meta: str
    """File with the names of the classes."""
    labels_key: str
    names_key: str
    md5: dict[str, str]
    """File → MD5, as published; the archive's among them."""
    statistics: Statistics | None
    """Published mean and standard deviation; None: those of the training images."""

    @property
    def archive(self) -> str:
        """Name of the published archive."""
        return f"{self.stem}.tar.gz"

    @property
    def files(self) -> tuple[str, ...]:
        """All files, in the order of the checksum of an unpacked folder."""
        return (*self.train, self.test, self.meta)


OFFICIAL_MD5 = {
    "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}
CIFAR100 = Layout(
    source="cifar",
    title="CIFAR-100",
    stem="cifar-100-python",
    folder="cifar-100-python",
    train=("train",),
    test="test",
    meta="meta",
    labels_key="fine_labels",
    names_key="fine_label_names",
    md5=OFFICIAL_MD5,
    statistics=((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
)
CIFAR10 = Layout(
    source="cifar10",
    title="CIFAR-10",
    stem="cifar-10-python",
    folder="cifar-10-batches-py",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test="test_batch",
    meta="batches.meta",
    labels_key="labels",
    names_key="label_names",
    md5={
        "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
        "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
    statistics=None,
)
LAYOUTS = {layout.source: layout for layout in (CIFAR100, CIFAR10)}


def load_cifar(path: Path, checksum: str, layout: Layout = CIFAR100) -> Dataset:
    """Load a data set in a python layout of CIFAR.

    Args:
        path: the archive (.tar.gz, .tar, .tar.xz, .tar.bz2 or .zip), the unpacked folder, or a folder that holds either
            by its published name (an archive is preferred).
        checksum: `official`, `off`, `md5:…` or `sha256:…`. The digest is that of the archive, or, for an unpacked
            folder, that of the concatenated bytes of its files, in the order of `Layout.files`.
        layout: the layout.

    Raises:
        DataError: the data set is missing or damaged, or its checksum differs.
    """
    found = _find(path, layout)
    if found is None:
        raise DataError(_missing(path, layout))
    try:
        files = _read_folder(found, checksum, layout) if found.is_dir() else _read_archive(found, checksum, layout)
    except OSError as error:
        raise DataError(f"{found} cannot be read: {error.strerror or error}") from error
    official = checksum == "official" or all(_digest("md5", files[name]) == layout.md5[name] for name in layout.files)
    return _dataset(files, found, layout, official=official)


def is_present(path: Path, layout: Layout = CIFAR100) -> bool:
    """Return whether `path` is, or holds, an archive or an unpacked folder that `load_cifar` can read."""
    return _find(path, layout) is not None


def download_cifar(folder: Path, layout: Layout = CIFAR100) -> None:
    """Download CIFAR-100 or CIFAR-10 into `folder`, as an archive and unpacked.

    Raises:
        DataError: the download failed, or the downloaded file is not the published one.
    """
    try:
        from torchvision import datasets  # imports torch, which reading does not need

        getattr(datasets, layout.title.replace("-", ""))(root=str(folder), download=True)
    except Exception as error:  # network, disk or server: the remedy is the same
        raise DataError(
            f"{layout.title} could not be downloaded into {folder}: {error}; put {layout.archive} there by other means"
        ) from error


def _find(path: Path, layout: Layout) -> Path | None:
    """Return the archive or the unpacked folder at or in `path`; None if there is none."""
    try:
        if path.is_file():
            return path
        for candidate in (*(path / f"{layout.stem}{suffix}" for suffix in SUFFIXES), path, path / layout.folder):
            if candidate.is_file() or all((candidate / name).is_file() for name in layout.files):
                return candidate
    except OSError as error:  # a folder without permission, a name too long
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    return None


def _missing(path: Path, layout: Layout) -> str:
    others = sorted(file for suffix in SUFFIXES for file in path.glob(f"*{suffix}")) if path.is_dir() else []
    hint = f"; name an archive by its own path to use it: {', '.join(map(str, others))}" if others else ""
    return (
        f"no {layout.title} in {path}: put {layout.archive} or the unpacked folder {layout.folder} there, or let "
        f"--download fetch it{hint}"
    )


def _digest(algorithm: str, *parts: bytes) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _verify(source: Path, checksum: str, parts: dict[str, bytes], layout: Layout) -> None:
    """Compare the checksum of `parts` (the archive, or its files) with `checksum`."""
    if checksum == "off":
        return
    if checksum == "official":
        for name, content in parts.items():
            if (actual := _digest("md5", content)) != layout.md5[name]:
                expected = f"md5:{layout.md5[name]} of the published {layout.title}"
                file = source if name == layout.archive or source.is_file() else source / name
                raise DataError(_mismatch(file, expected, f"md5:{actual}", parts))
        return
    algorithm = checksum.partition(":")[0]
    actual = f"{algorithm}:{_digest(algorithm, *parts.values())}"
    if actual != checksum:
        raise DataError(_mismatch(source, checksum, actual, parts))


def _mismatch(path: Path, expected: str, actual: str, parts: dict[str, bytes]) -> str:
    accepted = f"sha256:{_digest('sha256', *parts.values())}"
    return f"{path} must have the checksum {expected}, but got {actual}; checksum={accepted} accepts this file"


def _read_bounded(path: Path) -> bytes:
    """Read a file once, so that the verified bytes are those that are unpickled."""
    limit = archives.MAX_BYTES
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise DataError(f"{path} must have at most {limit:,} bytes, but has more")
    return content


def _read_folder(folder: Path, checksum: str, layout: Layout) -> dict[str, bytes]:
    files = {name: _read_bounded(folder / name) for name in layout.files}
    _verify(folder, checksum, files, layout)
    return files


def _read_archive(archive: Path, checksum: str, layout: Layout) -> dict[str, bytes]:
    """Verify the archive, then read the files out of it, in memory.

    The published archive is packed by gzip; of one that is packed otherwise, the published files are verified.
    """
    packed = _read_bounded(archive)
    by_files = checksum == "official" and not archives.is_gzip(packed)
    if not by_files:
        _verify(archive, checksum, {layout.archive: packed}, layout)
    files = unpack_files(packed, layout.folder, layout.files, archive)
    if by_files:
        _verify(archive, checksum, files, layout)
    return files


def _dataset(files: dict[str, bytes], source: Path, layout: Layout, *, official: bool) -> Dataset:
    class_names = _class_names(read_pickle(files[layout.meta], f"{source}: {layout.meta}"), source, layout)
    parts = {
        name: _image_set(read_pickle(files[name], f"{source}: {name}"), len(class_names), f"{source}: {name}", layout)
        for name in (*layout.train, layout.test)
    }
    train = _joined([parts[name] for name in layout.train])
    mean, std = layout.statistics if official and layout.statistics else channel_statistics(train.images)
    return Dataset(
        name=layout.source, class_names=class_names, mean=mean, std=std, train=train, test=parts[layout.test]
    )


def _joined(parts: list[ImageSet]) -> ImageSet:
    if len(parts) == 1:
        return parts[0]
    images, labels = [part.images for part in parts], [part.labels for part in parts]
    return ImageSet(images=np.concatenate(images), labels=np.concatenate(labels))


def _class_names(meta: dict[str, Plain], source: Path, layout: Layout) -> tuple[str, ...]:
    names = meta.get(layout.names_key)
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, str | bytes) for name in names):
        raise DataError(f"{source}: {layout.meta} must list two or more names as {layout.names_key}")
    try:
        return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: the names of the classes must be UTF-8: {error}") from error


def _image_set(content: dict[str, Plain], num_classes: int, name: str, layout: Layout) -> ImageSet:
    rows = content.get("data")
    width = int(np.prod(IMAGE_SHAPE))
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != width:
        raise DataError(f"{name}: data must be an array of uint8 [n, {width}], but got {_describe(rows)}")
    if len(rows) == 0:
        raise DataError(f"{name}: data must hold at least one image")
    labels = _labels(content.get(layout.labels_key), name, layout.labels_key)
    if labels.shape != (len(rows),):
        raise DataError(
            f"{name}: every image must have one label, but got {len(rows)} images and {len(labels)} {layout.labels_key}"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(
            f"{name}: `0 <= label < {num_classes}` must hold, but got labels from {labels.min()} to {labels.max()}"
        )
    # A copy: the bytes of the file can be freed, and torch requires writable arrays.
    return ImageSet(images=np.array(rows, order="C").reshape(-1, *IMAGE_SHAPE), labels=labels)


def _labels(labels: Plain, name: str, key: str) -> NDArray[np.int64]:
    if isinstance(labels, np.ndarray) and labels.ndim == 1 and labels.dtype.kind in "iu":
        return labels.astype(np.int64)
    if isinstance(labels, list) and all(type(label) is int and abs(label) < 2**63 for label in labels):
        return np.array(labels, dtype=np.int64)
    raise DataError(f"{name}: {key} must be a list of integers, but got {_describe(labels)}")


def _describe(value: Plain) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
