"""Small archives in the python layout of CIFAR-100, as Python 2 and Python 3 write them."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest


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


WriteArchive = Callable[..., Path]


@pytest.fixture
def write_archive(tmp_path: Path) -> WriteArchive:
    """Write an archive by the official one's name."""
    return partial(archive_in, tmp_path, "cifar-100-python.tar.gz")
