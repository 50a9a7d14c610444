"""CIFAR-100 and data sets in its python layout: an archive or a folder of the pickles `train`, `test` and `meta`.

Files are verified by checksum before they are unpickled, by `unpickle`, which executes no code from them.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mcl_ray.data.dataset import Dataset, ImageSet, channel_statistics
from mcl_ray.data.unpickle import Plain, read_pickle
from mcl_ray.errors import DataError

ARCHIVE = "cifar-100-python.tar.gz"
FOLDER = "cifar-100-python"
FILES = ("train", "test", "meta")
OFFICIAL_MD5 = {
    ARCHIVE: "eb9058c3a382ffc7106e4002c42a8d85",
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}
OFFICIAL_MEAN = (0.5071, 0.4867, 0.4408)
OFFICIAL_STD = (0.2675, 0.2565, 0.2761)
IMAGE_SHAPE = (3, 32, 32)
MAX_BYTES = 2**30
"""Maximum size of the archive, of its unpacked content, and of each file: six times CIFAR-100."""


def load_cifar(path: Path, checksum: str) -> Dataset:
    """Load a data set in the python layout of CIFAR-100.

    Args:
        path: the .tar.gz archive, the unpacked folder, or a folder that holds either (the archive is preferred).
        checksum: `official`, `off`, `md5:…` or `sha256:…`. The digest is that of the archive, or, for an unpacked
            folder, that of the concatenated bytes of train, test and meta.

    Raises:
        DataError: the data set is missing or damaged, or its checksum differs.
    """
    found = _find(path)
    if found is None:
        raise DataError(_missing(path))
    try:
        files = _read_folder(found, checksum) if found.is_dir() else _read_archive(found, checksum)
    except OSError as error:
        raise DataError(f"{found} cannot be read: {error.strerror or error}") from error
    official = checksum == "official" or all(_digest("md5", files[name]) == OFFICIAL_MD5[name] for name in FILES)
    return _dataset(files, found, official=official)


def is_present(path: Path) -> bool:
    """Return whether `path` is, or holds, an archive or an unpacked folder that `load_cifar` can read."""
    return _find(path) is not None


def download_cifar(folder: Path) -> None:
    """Download CIFAR-100 into `folder`, as an archive and unpacked.

    Raises:
        DataError: the download failed, or the downloaded file is not CIFAR-100.
    """
    try:
        from torchvision.datasets import CIFAR100  # imports torch, which reading does not need

        CIFAR100(root=str(folder), download=True)
    except Exception as error:  # network, disk or server: the remedy is the same
        raise DataError(
            f"CIFAR-100 could not be downloaded into {folder}: {error}; put {ARCHIVE} there by other means"
        ) from error


def _find(path: Path) -> Path | None:
    """Return the archive or the unpacked folder at or in `path`; None if there is none."""
    try:
        if path.is_file():
            return path
        for candidate in (path / ARCHIVE, path, path / FOLDER):
            if candidate.is_file() or all((candidate / name).is_file() for name in FILES):
                return candidate
    except OSError as error:  # a folder without permission, a name too long
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    return None


def _missing(path: Path) -> str:
    others = sorted(path.glob("*.tar.gz")) if path.is_dir() else []
    hint = f"; name an archive by its own path to use it: {', '.join(map(str, others))}" if others else ""
    return (
        f"no CIFAR-100 in {path}: put {ARCHIVE} or the unpacked folder {FOLDER} there, or let --download fetch it{hint}"
    )


def _digest(algorithm: str, *parts: bytes) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _verify(source: Path, checksum: str, parts: dict[str, bytes]) -> None:
    """Compare the checksum of `parts` (the archive, or the three files) with `checksum`."""
    if checksum == "off":
        return
    if checksum == "official":
        for name, content in parts.items():
            if (actual := _digest("md5", content)) != OFFICIAL_MD5[name]:
                expected = f"md5:{OFFICIAL_MD5[name]} of the published CIFAR-100"
                file = source if name == ARCHIVE else source / name
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
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise DataError(f"{path} must have at most {MAX_BYTES:,} bytes, but has more")
    return content


def _read_folder(folder: Path, checksum: str) -> dict[str, bytes]:
    files = {name: _read_bounded(folder / name) for name in FILES}
    _verify(folder, checksum, files)
    return files


def _read_archive(archive: Path, checksum: str) -> dict[str, bytes]:
    """Verify the archive, then read the three files out of it, in memory."""
    packed = _read_bounded(archive)
    _verify(archive, checksum, {ARCHIVE: packed})
    unpacked = _gunzip(packed, archive)
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as tar:
            for member in tar:
                folder, _, name = member.name.removeprefix("./").rpartition("/")
                if folder != FOLDER or name not in FILES:
                    continue
                if name in files or not member.isreg() or member.issparse():
                    raise DataError(f"{archive} must hold {FOLDER}/{name} once, as a plain file")
                files[name] = unpacked[member.offset_data : member.offset_data + member.size]
    except (tarfile.TarError, ValueError, EOFError, OSError, RecursionError) as error:
        raise DataError(f"{archive} is damaged: {error}") from error
    absent = [f"{FOLDER}/{name}" for name in FILES if name not in files]
    if absent:
        raise DataError(f"{archive} must hold {', '.join(f'{FOLDER}/{name}' for name in FILES)}, but lacks {absent[0]}")
    return files


def _gunzip(packed: bytes, archive: Path) -> bytes:
    gunzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        unpacked = gunzip.decompress(packed, MAX_BYTES)
    except zlib.error as error:
        raise DataError(f"{archive} is damaged, or no .tar.gz: {error}") from error
    if gunzip.unconsumed_tail:
        raise DataError(f"{archive} must unpack to at most {MAX_BYTES:,} bytes, but has more")
    if not gunzip.eof:
        raise DataError(f"{archive} is damaged: it is cut short after {len(packed):,} bytes")
    return unpacked


def _dataset(files: dict[str, bytes], source: Path, *, official: bool) -> Dataset:
    class_names = _class_names(read_pickle(files["meta"], f"{source}: meta"), source)
    sets = {
        name: _image_set(read_pickle(files[name], f"{source}: {name}"), len(class_names), f"{source}: {name}")
        for name in ("train", "test")
    }
    mean, std = (OFFICIAL_MEAN, OFFICIAL_STD) if official else channel_statistics(sets["train"].images)
    return Dataset(name="cifar", class_names=class_names, mean=mean, std=std, train=sets["train"], test=sets["test"])


def _class_names(meta: dict[str, Plain], source: Path) -> tuple[str, ...]:
    names = meta.get("fine_label_names")
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, str | bytes) for name in names):
        raise DataError(f"{source}: meta must list two or more names as fine_label_names")
    try:
        return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: the names of the classes must be UTF-8: {error}") from error


def _image_set(content: dict[str, Plain], num_classes: int, name: str) -> ImageSet:
    rows = content.get("data")
    width = int(np.prod(IMAGE_SHAPE))
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != width:
        raise DataError(f"{name}: data must be an array of uint8 [n, {width}], but got {_describe(rows)}")
    if len(rows) == 0:
        raise DataError(f"{name}: data must hold at least one image")
    labels = _labels(content.get("fine_labels"), name)
    if labels.shape != (len(rows),):
        raise DataError(
            f"{name}: every image must have one label, but got {len(rows)} images and {len(labels)} fine_labels"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(
            f"{name}: `0 <= label < {num_classes}` must hold, but got labels from {labels.min()} to {labels.max()}"
        )
    # A copy: the bytes of the file can be freed, and torch requires writable arrays.
    return ImageSet(images=np.array(rows, order="C").reshape(-1, *IMAGE_SHAPE), labels=labels)


def _labels(labels: Plain, name: str) -> NDArray[np.int64]:
    if isinstance(labels, np.ndarray) and labels.ndim == 1 and labels.dtype.kind in "iu":
        return labels.astype(np.int64)
    if isinstance(labels, list) and all(type(label) is int and abs(label) < 2**63 for label in labels):
        return np.array(labels, dtype=np.int64)
    raise DataError(f"{name}: fine_labels must be a list of integers, but got {_describe(labels)}")


def _describe(value: Plain) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
