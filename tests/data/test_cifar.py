from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets

from mcl_ray.data import archive as archive_module
from mcl_ray.data import cifar
from mcl_ray.data.cifar import download_cifar, is_present, load_cifar
from mcl_ray.data.dataset import channel_statistics
from mcl_ray.errors import DataError
from tests.support.data import WriteArchive, as_python2, contents, tar_of

EMOJI_SHA256 = "9d6c42ec8526cfb2984cfb44fa92be6fa5c1a99d99059d03bdcd3ea6d17a040b"


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def unpack(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / "cifar-100-python"


@pytest.mark.parametrize("dumps", [pickle.dumps, as_python2])
def test_an_archive_holds_what_was_put_in(write_archive: WriteArchive, dumps: object) -> None:
    archive = write_archive(dumps)
    dataset, expected = load_cifar(archive, "off"), contents()
    assert dataset.name == "cifar"
    assert dataset.class_names == ("apple", "bear", "clock")
    assert dataset.validation is None
    for name, part in (("train", dataset.train), ("test", dataset.test)):
        np.testing.assert_array_equal(part.images.reshape(len(part), -1), expected[name]["data"])
        np.testing.assert_array_equal(part.labels, expected[name]["fine_labels"])
        assert part.images.shape[1:] == (3, 32, 32)
        assert part.images.flags.writeable
        assert part.images.flags.owndata or part.images.base.flags.owndata
    assert (dataset.mean, dataset.std) == channel_statistics(dataset.train.images)


def test_every_place_that_a_path_can_name(write_archive: WriteArchive, tmp_path: Path) -> None:
    archive = write_archive()
    folder = unpack(archive, tmp_path / "other")
    for path in (archive, archive.parent, folder, folder.parent):
        assert is_present(path)
        assert len(load_cifar(path, "off").train) == 12
    load_cifar(archive.parent, sha256(archive.read_bytes()))


def test_checksums_of_an_archive(write_archive: WriteArchive) -> None:
    archive = write_archive()
    content = archive.read_bytes()
    load_cifar(archive, sha256(content))
    load_cifar(archive, f"md5:{hashlib.md5(content, usedforsecurity=False).hexdigest()}")
    for wrong in (f"sha256:{'0' * 64}", f"md5:{'0' * 32}"):
        with pytest.raises(DataError, match=rf"checksum {wrong}, but got .*; checksum={sha256(content)} accepts"):
            load_cifar(archive, wrong)
    with pytest.raises(DataError, match=rf"eb9058c3a382ffc7106e4002c42a8d85 .*; checksum={sha256(content)} accepts"):
        load_cifar(archive, "official")


def test_checksums_of_a_folder(write_archive: WriteArchive, tmp_path: Path) -> None:
    folder = unpack(write_archive(), tmp_path / "other")
    together = b"".join((folder / name).read_bytes() for name in ("train", "test", "meta"))
    load_cifar(folder, sha256(together))
    with pytest.raises(DataError, match=rf"train must have .*16019d7e3df5f24257cddd939b257f8d .*{sha256(together)}"):
        load_cifar(folder, "official")
    with (folder / "meta").open("ab") as file:
        file.write(b" ")
    with pytest.raises(DataError, match="must have the checksum"):
        load_cifar(folder, sha256(together))


def test_official_data_has_the_published_constants(
    write_archive: WriteArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_archive()
    folder = unpack(archive, tmp_path / "other")
    paths = [archive, *(folder / name for name in ("train", "test", "meta"))]
    for path in paths:
        digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        monkeypatch.setitem(cifar.OFFICIAL_MD5, path.name, digest)
    for checksum in ("official", "off"):
        for path in (archive, folder):
            dataset = load_cifar(path, checksum)
            assert dataset.mean == (0.5071, 0.4867, 0.4408)
            assert dataset.std == (0.2675, 0.2565, 0.2761)


def test_nothing_is_opened_before_it_is_verified(write_archive: WriteArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("opened before it was verified")

    archive = write_archive()
    monkeypatch.setattr(cifar, "unpack_files", opened)
    monkeypatch.setattr(cifar, "read_pickle", opened)
    with pytest.raises(DataError, match="must have the checksum"):
        load_cifar(archive, "official")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert not is_present(tmp_path)
    with pytest.raises(DataError, match=r"put cifar-100-python\.tar\.gz or the unpacked .*--download") as caught:
        load_cifar(tmp_path, "official")
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(DataError, match="no CIFAR-100 in"):
        load_cifar(tmp_path / "nowhere", "off")
    (tmp_path / "mine.tar.gz").touch()
    with pytest.raises(DataError, match=r"own path to use it: .*mine\.tar\.gz"):
        load_cifar(tmp_path, "off")


def test_every_cut_of_an_archive_is_damaged(write_archive: WriteArchive) -> None:
    archive = write_archive()
    content = archive.read_bytes()
    for length in (0, 1, 9, 10, 100, len(content) // 2, len(content) - 9, len(content) - 1):
        archive.write_bytes(content[:length])
        with pytest.raises(DataError, match="is damaged"):
            load_cifar(archive, "off")


def test_a_flipped_byte_is_damage(write_archive: WriteArchive) -> None:
    archive = write_archive()
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(DataError, match="is damaged"):
        load_cifar(archive, "off")


@pytest.mark.parametrize(
    "content",
    [b"", b"nothing", gzip.compress(b""), gzip.compress(b"x" * 5000), bytes(2000)],
    ids=["empty", "words", "gzip of nothing", "gzip of words", "zeros"],
)
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cifar-100-python.tar.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"is damaged|lacks cifar-100-python/train"):
        load_cifar(path, "off")


def test_a_tar_that_is_cut_before_it_was_packed(write_archive: WriteArchive) -> None:
    archive = write_archive()
    archive.write_bytes(gzip.compress(gzip.decompress(archive.read_bytes())[:20_000]))
    with pytest.raises(DataError, match="is damaged"):
        load_cifar(archive, "off")


def test_an_archive_that_unpacks_to_too_much(write_archive: WriteArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_archive()
    bomb = gzip.compress(bytes(2**20))
    archive.write_bytes(bomb)
    monkeypatch.setattr(archive_module, "MAX_BYTES", 2**17)
    with pytest.raises(DataError, match="must unpack to at most 131,072 bytes, but has more"):
        load_cifar(archive, "off")
    archive.write_bytes(bytes(2**17 + 1))
    with pytest.raises(DataError, match="must have at most 131,072 bytes, but has more"):
        load_cifar(archive, "off")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_members_must_be_plain_files(tmp_path: Path, kind: bytes) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(pickle.dumps(contents()["meta"]))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo("cifar-100-python/meta")
        info.type, info.linkname = kind, str(secret)
        tar.addfile(info)
    path = tmp_path / "cifar-100-python.tar.gz"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match="cifar-100-python/meta once, as a plain file"):
        load_cifar(path, "off")


def test_a_member_that_comes_twice(tmp_path: Path) -> None:
    meta = pickle.dumps(contents()["meta"])
    path = tmp_path / "cifar-100-python.tar.gz"
    path.write_bytes(tar_of({"cifar-100-python/meta": meta, "./cifar-100-python/meta": meta}))
    with pytest.raises(DataError, match="once, as a plain file"):
        load_cifar(path, "off")


def test_other_members_are_left_alone(tmp_path: Path) -> None:
    members = {f"./cifar-100-python/{name}": pickle.dumps(value) for name, value in contents().items()}
    others = {"../../escaped": b"x", "/train": b"x", "cifar-100-python/../train": b"x", "other/train": b"x"}
    folder = tmp_path / "inner" / "most"
    folder.mkdir(parents=True)
    path = folder / "cifar-100-python.tar.gz"
    path.write_bytes(tar_of(others | members))
    assert len(load_cifar(path, "off").train) == 12
    assert [entry for entry in tmp_path.rglob("*") if entry.is_file()] == [path]


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_a_file_that_is_missing_or_hostile(write_archive: WriteArchive, name: str, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> object:
            return os.system, (f"touch {tmp_path}/trace",)

    with pytest.raises(DataError, match=f"lacks cifar-100-python/{name}"):
        load_cifar(write_archive(**{name: None}), "off")
    with pytest.raises(DataError, match=rf": {name} is refused: it asks for (posix|nt)\.system"):
        load_cifar(write_archive(**{name: {"data": Hostile()}}), "off")
    with pytest.raises(DataError, match=f": {name} is damaged"):
        load_cifar(write_archive(**{name: b"nothing"}), "off")
    assert not (tmp_path / "trace").exists()


PIXELS = np.zeros((12, 3072), dtype=np.uint8)
LABELS = [0, 1, 2] * 4


@pytest.mark.parametrize(
    ("data", "labels", "match"),
    [
        (None, LABELS, r"uint8 \[n, 3072\], but got NoneType"),
        (PIXELS.tolist(), LABELS, "but got list"),
        (PIXELS.astype(np.float32), LABELS, r"but got float32 \[12, 3072\]"),
        (PIXELS[:, :3071], LABELS, r"but got uint8 \[12, 3071\]"),
        (PIXELS.reshape(12, 3, 32, 32), LABELS, r"but got uint8 \[12, 3, 32, 32\]"),
        (PIXELS[:0], [], "at least one image"),
        (PIXELS, None, "list of integers, but got NoneType"),
        (PIXELS, [0.5] * 12, "list of integers"),
        (PIXELS, [True] * 12, "list of integers"),
        (PIXELS, [2**70] * 12, "list of integers"),
        (PIXELS, LABELS[:-1], "12 images and 11 fine_labels"),
        (PIXELS, [*LABELS[:-1], 3], r"`0 <= label < 3` must hold, but got labels from 0 to 3"),
        (PIXELS, [*LABELS[:-1], -1], "but got labels from -1 to 2"),
    ],
)
def test_images_and_labels_are_validated(write_archive: WriteArchive, data: object, labels: object, match: str) -> None:
    for name in ("train", "test"):
        changed = {"data": data, "fine_labels": labels}
        with pytest.raises(DataError, match=rf": {name}: .*{match}"):
            load_cifar(write_archive(**{name: changed}), "off")


@pytest.mark.parametrize("names", [None, [], ["one"], "names", [1, 2, 3], [b"\xff", b"b", b"c"]])
def test_names_are_validated(write_archive: WriteArchive, names: object) -> None:
    with pytest.raises(DataError, match=r"two or more names|UTF-8"):
        load_cifar(write_archive(meta={"fine_label_names": names}), "off")


def test_labels_may_be_an_array(write_archive: WriteArchive) -> None:
    train = contents()["train"]
    labels = np.array(train["fine_labels"], dtype=np.uint8)
    loaded = load_cifar(write_archive(train=train | {"fine_labels": labels}), "off").train.labels
    assert loaded.dtype == np.int64
    np.testing.assert_array_equal(loaded, labels)


def test_an_archive_that_cannot_be_read(write_archive: WriteArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    archive = write_archive()
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        load_cifar(archive, "off")


def test_download(write_archive: WriteArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(root: str, *, download: bool) -> None:
        assert download
        (Path(root) / "cifar-100-python.tar.gz").write_bytes(write_archive().read_bytes())

    def offline(**_: object) -> None:
        raise OSError("no route to host")

    folder = tmp_path / "fresh"
    folder.mkdir()
    monkeypatch.setattr(torchvision.datasets, "CIFAR100", fetched)
    download_cifar(folder)
    assert is_present(folder)
    monkeypatch.setattr(torchvision.datasets, "CIFAR100", offline)
    with pytest.raises(DataError, match=r"could not be downloaded into .*: no route to host; put cifar-100-python"):
        download_cifar(folder)


def test_real_images(data_dir: Path) -> None:
    archive = data_dir / "emoji-cifar100-format.tar.gz"
    verified, trusted = load_cifar(archive, f"sha256:{EMOJI_SHA256}"), load_cifar(archive, "off")
    assert (len(verified.train), len(verified.test), verified.num_classes) == (6308, 1188, 90)
    assert verified.class_names[:2] == ("alphanum", "animal-bird")
    np.testing.assert_array_equal(verified.train.images, trusted.train.images)
    assert all(0 < mean < 1 and 0 < std < 0.5 for mean, std in zip(verified.mean, verified.std, strict=True))
    with pytest.raises(DataError, match=f"checksum=sha256:{EMOJI_SHA256} accepts"):
        load_cifar(archive, "official")
