"""Small data sets as their sources lay them out: archives of CIFAR, as Python 2 and 3 write them, arrays, MNIST."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mcl_ray.data.cifar import CIFAR100, Layout

CLASS_NAMES = ("apple", "bear", "clock")


def as_python2(value: object) -> bytes:
    """Pickle as Python 2's cPickle did for CIFAR-100: protocol 2, byte strings, numpy's old module names."""
    return b"\x80\x02" + _python2(value) + b"."


def _python2(value: object) -> bytes:
    match value:
        case bytes():
            return b"T" + struct.pack("<i", len(value)) + value
        case str():
            return _python2(value.encode())
        case int():
            return b"J" + struct.pack("<i", value)
        case list():
            return b"](" + b"".join(map(_python2, value)) + b"e"
        case dict():
            return b"}(" + b"".join(_python2(key) + _python2(item) for key, item in value.items()) + b"u"
        case np.ndarray():
            shape = b"(" + b"".join(map(_python2, value.shape)) + b"t"
            dtype = (
                b"cnumpy\ndtype\n"
                + _python2("u1")
                + b"K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
            )
            start = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
            return start + b"(K\x01" + shape + dtype + b"\x89" + _python2(value.tobytes()) + b"tb"
    raise TypeError(type(value))


def contents(num_train: int = 12, num_test: int = 6, num_classes: int = 3) -> dict[str, dict[str, object]]:
    """What the three files hold."""
    rng = np.random.default_rng(0)

    def split(count: int) -> dict[str, object]:
        labels = [index % num_classes for index in range(count)]
        return {
            "filenames": [f"{index}.png" for index in range(count)],
            "fine_labels": labels,
            "coarse_labels": [0] * count,
            "data": rng.integers(0, 256, (count, 3072), dtype=np.uint8),
        }

    names = ["apple", "bear", "clock", *map(str, range(3, num_classes))][:num_classes]
    return {"train": split(num_train), "test": split(num_test), "meta": {"fine_label_names": names}}


def tar_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def archive_in(
    folder: Path,
    name: str = "images.tar.gz",
    dumps: Callable[[object], bytes] = pickle.dumps,
    **changes: object,
) -> Path:
    """Write an archive; `changes` replaces files by an object to pickle, by raw bytes, or by None for no such file."""
    members = {}
    for file, value in (contents() | changes).items():
        if value is not None:
            members[f"cifar-100-python/{file}"] = value if isinstance(value, bytes) else dumps(value)
    path = folder / name
    path.write_bytes(tar_of(members))
    return path


def files_of(
    layout: Layout,
    dumps: Callable[[object], bytes] = pickle.dumps,
    as_labels: Callable[[list[int]], object] = list,
) -> dict[str, bytes]:
    """Return name → content of the files of a layout: 12 or 15 training and 6 test images of three classes."""
    rng = np.random.default_rng(0)

    def split(count: int) -> dict[str, object]:
        labels = [index % 3 for index in range(count)]
        return {"data": rng.integers(0, 256, (count, 3072), dtype=np.uint8), layout.labels_key: as_labels(labels)}

    counts = dict.fromkeys(layout.train, 12 if layout == CIFAR100 else 3) | {layout.test: 6}
    files = {name: dumps(split(count)) for name, count in counts.items()}
    return files | {layout.meta: dumps({layout.names_key: list(CLASS_NAMES)})}


def npz_arrays(
    splits: Sequence[str] = ("train", "val", "test"),
    shape: tuple[int, ...] = (9, 7, 3),
    keys: tuple[str, str] = ("{}_images", "{}_labels"),
) -> dict[str, NDArray[np.uint8]]:
    """Return the arrays of three splits: 12, 6 and 3 images of three classes, 0, 2 and 5."""
    counts, rng = dict(zip(("train", "val", "test"), (12, 6, 3), strict=True)), np.random.default_rng(0)
    found = {}
    for split in splits:
        found[keys[0].format(split)] = rng.integers(0, 256, (counts[split], *shape), dtype=np.uint8)
        found[keys[1].format(split)] = np.array([[0, 2, 5][i % 3] for i in range(counts[split])], np.uint8)[:, None]
    return found


def write_fashion_mnist(root: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Write 20 images of ten classes as both splits of FashionMNIST, where torchvision puts it; return them."""
    folder, rng = root / "FashionMNIST/raw", np.random.default_rng(0)
    folder.mkdir(parents=True)
    images, labels = rng.integers(0, 256, (20, 28, 28), dtype=np.uint8), np.arange(20, dtype=np.uint8) % 10
    for name in ("train", "t10k"):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape)
            (folder / f"{name}-{kind}-ubyte").write_bytes(header + array.tobytes())
            (folder / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    return images, labels


WriteArchive = Callable[..., Path]


@pytest.fixture
def write_archive(tmp_path: Path) -> WriteArchive:
    """Write an archive by the official one's name."""
    return partial(archive_in, tmp_path, "cifar-100-python.tar.gz")
