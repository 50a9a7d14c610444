"""Arrays in the layout of MedMNIST, and data sets that torchvision reads."""

import contextlib
import io
import struct
import zipfile

import numpy as np
import pytest

from mcl_ray.config.environment import Environment
from mcl_ray.config.spec import DataSpec
from mcl_ray.data.source import load_dataset
from mcl_ray.errors import DataError
from mcl_ray.training.estimate import images_of
from tests.support.data import npz_arrays, write_fashion_mnist


def loaded(tmp_path, content, spec=DataSpec(source="npz"), save=np.savez):  # noqa: B008 -- a frozen spec
    save(tmp_path / "images.npz", **content)
    return load_dataset(spec, Environment(data=tmp_path / "images.npz"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("shape", [(9, 7, 3), (9, 7), (9, 7, 1)])
def test_three_splits_are_three(save, shape, tmp_path):
    content = npz_arrays(shape=shape)
    dataset = loaded(tmp_path, content, save=save)
    assert {name: split.labels.tolist() for name, split in dataset.splits.items()} == {
        "train": [0, 1, 2] * 4, "validation": [0, 1, 2] * 2, "test": [0, 1, 2],
    }  # fmt: skip
    assert dataset.class_names == ("0", "2", "5")
    channels = content["train_images"].reshape(12, 9, 7, -1)
    assert np.array_equal(dataset.train.images, channels.transpose(0, 3, 1, 2))
    assert dataset.mean == pytest.approx(channels.mean(axis=(0, 1, 2)) / 255)
    local = Environment(data=tmp_path / "images.npz")
    assert images_of(DataSpec(source="npz"), local).counts.tolist() == [4, 4, 4]


@pytest.mark.parametrize("kind", ["f2", "f4", ">f8", "g", "?"])
def test_labels_may_be_whole_numbers_of_any_type(kind, tmp_path):
    content = npz_arrays()
    for name in [name for name in content if name.endswith("labels")]:
        content[name] = (content[name] > 0 if kind == "?" else content[name]).astype(kind)
    dataset = loaded(tmp_path, content)
    assert dataset.class_names == (("0", "1") if kind == "?" else ("0", "2", "5"))
    assert dataset.test.labels.tolist() == ([0, 1, 1] if kind == "?" else [0, 1, 2])


@pytest.mark.parametrize("split", ["val", "test"])
def test_of_two_splits_the_second_is_the_test_split(split, tmp_path):
    spec = DataSpec(source="npz", validation_fraction=0.25)
    dataset = loaded(tmp_path, npz_arrays(("train", split)), spec)
    assert len(dataset.test) == {"val": 6, "test": 3}[split]
    assert len(dataset.validation) == 3


def test_kerass_names_are_known_too(tmp_path):
    content = npz_arrays(("train", "test"), keys=("x_{}", "y_{}"))
    content["y_train"] = content["y_train"][:, 0]
    assert len(loaded(tmp_path, content).train) == 12


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"train_images": None}, "must hold train_images, train_labels, and those of test or val, but .* holds"),
        ({"val_labels": None}, "must hold val_labels beside val_images"),
        ({"train_images": np.zeros((12, 9, 7, 3), np.float32)}, r"images must be uint8 .* is float32 \[12, 9, 7, 3\]"),
        ({"train_images": np.zeros((12, 9, 7, 9), np.uint8)}, r"images must be uint8 .* is uint8 \[12, 9, 7, 9\]"),
        ({"val_images": np.zeros((6, 8, 7, 3), np.uint8)}, "all images must have one shape"),
        (
            {"train_labels": np.zeros((12, 14), np.uint8)},
            r"one whole number for each of the 12 images, .* uint8 \[12, 14\]",
        ),
        (
            {"train_labels": np.array([0, 1.5] * 6)},
            "that are numbers must be whole, and below 9,.*, but train_labels .* has 1.5",
        ),
        ({"train_labels": np.array([0, np.nan] * 6)}, "must be whole, and below .*, but train_labels of .* has nan"),
        ({"train_labels": np.array([0, -np.inf] * 6)}, "must be whole, and below .*, but train_labels of .* has -inf"),
        ({"train_labels": np.array([0, 2**24] * 6, "f4")}, "must be whole, and below 16,777,216, but .* has 16777216"),
        ({"train_labels": np.array(["0", "1"] * 6)}, "one whole number for each of the 12 images, .* is <U1"),
        ({"train_labels": np.zeros(11, np.uint8)}, r"one whole number .* is uint8 \[11\]"),
        ({"train_labels": np.zeros(12, np.uint8)}, "two classes or more"),
        ({"test_labels": np.array([0, 2, 7])}, "and 7 in another split only"),
        ({"train_labels": np.array([{}] * 12)}, "Object arrays cannot be loaded when allow_pickle=False"),
    ],
)
def test_arrays_that_are_not_laid_out_so_are_refused(changes, rule, tmp_path):
    content = {name: array for name, array in (npz_arrays() | changes).items() if array is not None}
    with pytest.raises(DataError, match=rule):
        loaded(tmp_path, content)


def test_arrays_of_no_split_are_counted_and_named(tmp_path):
    content = npz_arrays(("train", "test"))
    content |= {"validation_images": content["test_images"], "validation_labels": content["test_labels"]}
    dataset = loaded(tmp_path, content)
    assert set(dataset.splits) == {"train", "test"}
    assert dataset.left_out == {"arrays that are of no split, as validation_images": 2}
    planned = images_of(DataSpec(source="npz"), Environment(data=tmp_path / "images.npz"))
    assert planned.left_out == dataset.left_out


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_npz_is_read_or_refused(save, tmp_path):
    rng = np.random.default_rng(0)
    save(tmp_path / "whole.npz", **npz_arrays())
    whole = (tmp_path / "whole.npz").read_bytes()
    for _ in range(60):
        content = bytearray(whole)
        for position in (*rng.integers(len(whole), size=2), *(len(whole) - 1 - rng.integers(600, size=2))):
            content[position] = rng.integers(256)
        content[rng.integers(130)] = rng.integers(256)
        (tmp_path / "x.npz").write_bytes(content)
        with contextlib.suppress(DataError):
            load_dataset(DataSpec(source="npz"), Environment(data=tmp_path / "x.npz"))


def test_a_member_that_is_no_array_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for name in npz_arrays():
            archive.writestr(name, b"0123")
    with pytest.raises(DataError, match=r"must hold arrays, but train_images of .*x.npz is none"):
        load_dataset(DataSpec(source="npz"), Environment(data=tmp_path / "x.npz"))


def test_what_is_no_npz_is_refused(tmp_path):
    one, empty = io.BytesIO(), io.BytesIO()
    np.save(one, np.zeros(3))
    zipfile.ZipFile(empty, "w").close()
    np.savez(tmp_path / "whole.npz", **npz_arrays())
    whole = (tmp_path / "whole.npz").read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 3] ^= 1
    for content in (b"", b"no", one.getvalue(), empty.getvalue(), whole[:500], whole[:-30], bytes(damaged)):
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"npz"):
            load_dataset(DataSpec(source="npz"), Environment(data=tmp_path / "x.npz"))
    with pytest.raises(DataError, match="npz"):
        load_dataset(DataSpec(source="npz"), Environment(data=tmp_path / "nowhere.npz"))


def test_a_data_set_of_torchvision_is_read_from_where_it_puts_it(tmp_path):
    images, labels = write_fashion_mnist(tmp_path)
    spec, local = DataSpec(source="FashionMNIST"), Environment(data=tmp_path)
    dataset = load_dataset(spec, local)
    assert dataset.class_names[:2] == ("T-shirt/top", "Trouser")
    assert np.array_equal(dataset.test.images, images[:, None])
    assert np.array_equal(dataset.train.labels, labels)
    assert images_of(spec, local).counts.tolist() == [2] * 10
    assert images_of(DataSpec(source="SVHN"), local).counts.sum() == 73_257
    with pytest.raises(DataError, match=r"torchvision's KMNIST cannot be read from .*; let --download fetch it"):
        load_dataset(DataSpec(source="KMNIST"), local)


@pytest.mark.parametrize(
    ("labels", "rule"),
    [
        (np.arange(10), "there must be images, each with one label, but .* has 20 and 10 labels"),
        (np.arange(20), "`0 <= label < 10` must hold, but .* has 0 to 19"),
        (None, "torchvision's FashionMNIST cannot be read from .*: [^;]+; let --download"),
    ],
)
def test_labels_that_do_not_fit_the_images_of_torchvision_are_refused(labels, rule, tmp_path):
    write_fashion_mnist(tmp_path)
    content = b"\xff" * 28 if labels is None else struct.pack(">II", 0x801, len(labels)) + bytes(labels.tolist())
    (tmp_path / "FashionMNIST/raw/train-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(DataError, match=rule):
        load_dataset(DataSpec(source="FashionMNIST"), Environment(data=tmp_path))
