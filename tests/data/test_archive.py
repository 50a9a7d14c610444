"""Archives of the python layouts of CIFAR, however they were packed; CIFAR-10; and pickles with numpy's scalars."""

import bz2
import gzip
import hashlib
import io
import lzma
import pickle
import tarfile
import zipfile

import numpy as np
import pytest

from mcl_ray.config.environment import Environment
from mcl_ray.config.recipes import cifar10
from mcl_ray.config.spec import DataSpec
from mcl_ray.data.cifar import CIFAR10, CIFAR100, load_cifar
from mcl_ray.data.source import load_dataset
from mcl_ray.data.unpickle import read_pickle
from mcl_ray.errors import DataError
from mcl_ray.training.estimate import images_of
from tests.support.data import CLASS_NAMES, as_python2, files_of


def tar(files, folder="cifar-100-python"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as opened:
        for name, content in files.items():
            info = tarfile.TarInfo(f"{folder}/{name}" if folder else name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(files, folder="cifar-100-python"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in files.items():
            opened.writestr(f"{folder}/{name}", content)
            opened.writestr(f"__MACOSX/{folder}/._{name}", b"\0\5\26\7")
    return buffer.getvalue()


def in_members(compress):
    """Pack as bgzip and pigz do: blocks of the content one after another."""
    return lambda raw: b"".join(compress(raw[i : i + 9000]) for i in range(0, len(raw), 9000))


PACKERS = {
    ".tar": bytes,
    ".tar.gz": gzip.compress,
    ".tgz": in_members(gzip.compress),
    ".tar.xz": lzma.compress,
    ".tar.bz2": bz2.compress,
}
OTHERS = {
    "xz of members": in_members(lzma.compress),
    "bzip2 of members": in_members(bz2.compress),
    "gzip with padding": lambda raw: gzip.compress(raw) + bytes(512),
}


@pytest.mark.parametrize("pack", [*PACKERS, *OTHERS, ".zip"])
@pytest.mark.parametrize("layout", [CIFAR100, CIFAR10], ids=lambda layout: layout.source)
def test_an_archive_may_be_packed_in_any_way(pack, layout, tmp_path):
    files = files_of(layout)
    packed = zipped(files, layout.folder) if pack == ".zip" else (PACKERS | OTHERS)[pack](tar(files, layout.folder))
    path = tmp_path / f"{layout.stem}{pack if pack.startswith('.') else '.tar.gz'}"
    path.write_bytes(packed)
    for given in (path, tmp_path):
        dataset = load_cifar(given, f"sha256:{hashlib.sha256(packed).hexdigest()}", layout)
        assert (len(dataset.train), len(dataset.test), dataset.class_names) == (
            12 if layout == CIFAR100 else 15,
            6,
            CLASS_NAMES,
        )
        last = read_pickle(files[layout.train[-1]], "train")["data"][-1]
        assert np.array_equal(dataset.train.images[-1], last.reshape(3, 32, 32))
    with pytest.raises(DataError, match=rf"of the published {layout.title}, but got md5"):
        load_cifar(path, "official", layout)


@pytest.mark.parametrize("pack", [*PACKERS, ".zip"])
def test_every_cut_of_an_archive_is_damaged(pack, tmp_path):
    files = files_of(CIFAR100)
    packed, path = zipped(files) if pack == ".zip" else PACKERS[pack](tar(files)), tmp_path / f"x{pack}"
    for length in (1, 10, 100, len(packed) // 3, len(packed) // 2, len(packed) - 2000 if pack != ".tar" else 20_000):
        path.write_bytes(packed[:length])
        with pytest.raises(DataError, match=r"is damaged|lacks cifar-100-python"):
            load_cifar(path, "off")


def test_what_follows_a_member_of_gzip_must_be_one(tmp_path):
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(tar(files_of(CIFAR100))) + b"more")
    with pytest.raises(DataError, match="is damaged"):
        load_cifar(path, "off")


@pytest.mark.parametrize("folder", ["", "my images", "a/b"])
def test_the_folder_in_an_archive_may_have_another_name_if_only_one_is_complete(folder, tmp_path):
    path, files = tmp_path / "x.tar", files_of(CIFAR100)
    path.write_bytes(tar(files, folder))
    assert len(load_cifar(path, "off").train) == 12
    both = {f"{name}/{file}": content for name in ("a", "b") for file, content in files.items()}
    path.write_bytes(tar(both, ""))
    with pytest.raises(DataError, match="lacks cifar-100-python/train"):
        load_cifar(path, "off")


def test_an_encrypted_zip_is_named_as_such(tmp_path):
    content = bytearray(zipped(files_of(CIFAR100)))
    for signature, offset in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        position = content.find(signature)
        while position >= 0:
            content[position + offset] |= 1
            position = content.find(signature, position + 1)
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(DataError, match="is damaged: .*encrypted"):
        load_cifar(tmp_path / "x.zip", "off")


@pytest.mark.parametrize(
    "as_labels",
    [
        list,
        lambda labels: [np.int64(label) for label in labels],
        lambda labels: [np.uint8(label) for label in labels],
        lambda labels: tuple(np.int32(label) for label in labels),
        lambda labels: np.array(labels, ">i2"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_labels_may_be_numpys(as_labels, protocol, tmp_path):
    files = files_of(CIFAR10, lambda value: pickle.dumps(value, protocol), as_labels)
    (tmp_path / "x.tar").write_bytes(tar(files, CIFAR10.folder))
    assert load_cifar(tmp_path / "x.tar", "off", CIFAR10).train.labels.tolist() == [0, 1, 2] * 5


def test_names_may_be_numpys(tmp_path):
    files = files_of(CIFAR100)
    for as_name in (np.str_, lambda name: np.bytes_(name.encode())):
        names = {"fine_label_names": [as_name(name) for name in ("äpfel", "bear", "clock")]}
        (tmp_path / "x.tar").write_bytes(tar(files | {"meta": pickle.dumps(names)}))
        assert load_cifar(tmp_path / "x.tar", "off").class_names == ("äpfel", "bear", "clock")


def test_cifar_10_is_read_as_python_2_wrote_it(tmp_path):
    folder = tmp_path / CIFAR10.folder
    folder.mkdir()
    for name, content in files_of(CIFAR10, as_python2).items():
        (folder / name).write_bytes(content)
    spec = DataSpec(source="cifar10", checksum="off", validation_fraction=0.2)
    dataset = load_dataset(spec, Environment(data=tmp_path))
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 12, "validation": 3, "test": 6}
    assert images_of(spec, Environment(data=tmp_path)).counts.tolist() == [4, 4, 4]
    assert images_of(cifar10().data, Environment(data=tmp_path / "nowhere")).counts.tolist() == [5000] * 10
    with pytest.raises(DataError, match=r"data_batch_1 must have .* of the published CIFAR-10, but got"):
        load_dataset(cifar10().data, Environment(data=tmp_path))
    with pytest.raises(DataError, match="no CIFAR-10 in .*: put cifar-10-python.tar.gz"):
        load_dataset(cifar10().data, Environment(data=tmp_path / "nowhere"))
