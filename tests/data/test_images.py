"""Folders and Parquet files of encoded images: what is found, what is kept, what is refused."""

import hashlib
import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import replace
from mcl_ray.config.recipes import imagenet
from mcl_ray.config.spec import DataSpec
from mcl_ray.data.dataset_index import TRAIN
from mcl_ray.data.images import list_images
from mcl_ray.data.source import dataset_for, load_dataset
from mcl_ray.errors import DataError, SpecError
from tests.support.pictures import COLOURS, picture, write_folder, write_parquet

FOLDER, PARQUET = DataSpec(source="folder", image_size=16), DataSpec(source="parquet", image_size=16)


@pytest.fixture(params=["folder", "parquet", "parquets"])
def source(request, tmp_path):
    if request.param == "folder":
        return FOLDER, write_folder(tmp_path / "pictures")
    if request.param == "parquet":
        return PARQUET, write_parquet(tmp_path / "pictures.parquet")
    write_parquet(tmp_path / "many/train-0.parquet", train=5, val=0, split=None)
    write_parquet(tmp_path / "many/train-1.parquet", train=3, val=0, split=None)
    write_parquet(tmp_path / "many/validation-0.parquet", train=0, val=4, split=None)
    return PARQUET, tmp_path / "many"


def environment(tmp_path, data):
    return Environment(data=data, results=tmp_path / "results")


def test_every_image_is_found_with_its_class(source, tmp_path):
    spec, data = source
    dataset = load_dataset(spec, environment(tmp_path, data))
    assert dataset.class_names == tuple(COLOURS)
    assert dataset.image_shape == (3, 16, 16)
    assert np.bincount(dataset.train.labels).tolist() == [8, 8, 8]
    assert np.bincount(dataset.test.labels).tolist() == [4, 4, 4]
    for split, first in ((dataset.train, 0), (dataset.test, 100)):
        for name in COLOURS:
            of_class = [split.read(i) for i in np.flatnonzero(split.labels == dataset.class_names.index(name))]
            kinds = ("PNG", "JPEG") if spec.source == "folder" else ("PNG", "PNG")
            written = [picture(name, first + n, kind=kinds[n % 2]) for n in range(len(of_class))]
            assert set(of_class) <= set(written) | {picture(name, n) for n in range(8)}
    index = list_images(spec, data)
    assert index.class_names == dataset.class_names
    assert np.array_equal(index.labels[index.rows(TRAIN)], dataset.train.labels)


def test_statistics_are_those_of_the_training_images_and_kept(source, tmp_path):
    spec, data = source
    local = environment(tmp_path, data)
    dataset = load_dataset(spec, local)
    mean = np.mean(list(COLOURS.values()), axis=0) / 255
    assert dataset.mean == pytest.approx(mean, abs=0.01)
    assert 0.1 < min(dataset.std) <= max(dataset.std) < 0.4
    (kept,) = local.cache.glob("*/statistics-24-exif")
    content = json.dumps([[0.1, 0.2, 0.3], [1, 1, 1]]).encode()
    kept.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    assert load_dataset(spec, local).mean == (0.1, 0.2, 0.3)
    published = replace(spec, {"normalisation": "imagenet"})
    assert load_dataset(published, local).mean == (0.485, 0.456, 0.406)


def test_the_statistics_are_those_of_the_images_that_are_trained_on(source, tmp_path):
    spec, data = source
    local = environment(tmp_path, data)
    held = load_dataset(replace(spec, {"validation_fraction": 0.25}), local)
    assert len(held.validation) > 0
    names = sorted(file.name for file in local.cache.glob("*/statistics-*"))
    assert names == [f"statistics-{len(held.train)}-exif"], "measured once, on those alone"


def test_what_is_kept_is_made_anew_when_the_source_has_changed(source, tmp_path):
    spec, data = source
    local = environment(tmp_path, data)
    load_dataset(spec, local)
    (before,) = local.cache.iterdir()
    if spec.source == "folder":
        (data / "train/red/new.png").write_bytes(picture("red", 50))
    elif data.is_file():
        write_parquet(data, train=9)
    else:
        write_parquet(data / "train-2.parquet", train=1, val=0, split=None)
    assert len(load_dataset(spec, local).train) == (25 if spec.source == "folder" else 27)
    (after,) = local.cache.iterdir()
    assert after != before


def test_what_is_kept_is_used(tmp_path):
    root, local = write_folder(tmp_path / "pictures"), environment(tmp_path, tmp_path / "pictures")
    load_dataset(FOLDER, local)
    folder = root / "train/red"
    times = folder.stat()
    (folder / "0.png").unlink()
    os.utime(folder, ns=(times.st_atime_ns, times.st_mtime_ns))  # as if nothing had changed
    assert len(load_dataset(FOLDER, local).train) == 24


FLIPS = 40
"""Number of bits, one at a time, that are flipped in each file of a cache."""


def test_what_is_kept_and_damaged_is_made_anew_and_said_in_one_line(source, tmp_path, caplog):
    spec, data = source
    local = environment(tmp_path, data)
    dataset = load_dataset(spec, local)
    wanted = dataset.train.read(3)
    kept = [file for file in local.cache.rglob("*") if file.is_file()]
    assert len(kept) == (2 if spec.source == "folder" else 3), "statistics, and an index, or the images' positions"
    for file in kept:
        content = file.read_bytes()
        for damage in (lambda content: b"", lambda content: b"{junk", *[flipped] * FLIPS):
            caplog.clear()
            file.unlink()  # it is mapped: what is there stays
            file.write_bytes(damage(content))
            again = load_dataset(spec, local)
            assert (again.mean, again.train.read(3), again.class_names) == (dataset.mean, wanted, dataset.class_names)
            assert np.array_equal(again.train.labels, dataset.train.labels)
            (said,) = caplog.messages
            assert said.startswith(f"{file} is "), said
            assert said.endswith(", and is made again"), said
            assert file.read_bytes() == content


def flipped(content, rng=np.random.default_rng(0)):  # noqa: B008 -- one sequence of random numbers for all calls
    position = rng.integers(8 * len(content))
    changed = bytearray(content)
    changed[position // 8] ^= 1 << (position % 8)
    return bytes(changed)


def test_names_may_be_of_arrows_large_kind(tmp_path):
    names = pa.array([name for _ in range(12) for name in COLOURS], pa.large_string())
    file = write_parquet(tmp_path / "pictures.parquet", label=names)
    assert load_dataset(PARQUET, environment(tmp_path, file)).class_names == tuple(COLOURS)


def test_a_validation_split_is_held_out_of_the_training_images(source, tmp_path):
    spec, data = source
    dataset = load_dataset(replace(spec, {"validation_fraction": 0.25}), environment(tmp_path, data))
    assert np.bincount(dataset.validation.labels).tolist() == [2, 2, 2]
    assert set(dataset.train.rows).isdisjoint(dataset.validation.rows)
    assert len(dataset.train) == 18


def test_images_in_a_struct_as_the_hub_has_them(tmp_path):
    plain = write_parquet(tmp_path / "plain.parquet")
    table = pq.read_table(plain, use_threads=False)
    rows = [{"bytes": image.as_py(), "path": "x.png"} for image in table["image"]]
    pq.write_table(table.set_column(0, "image", pa.array(rows)), tmp_path / "hub.parquet")
    local = environment(tmp_path, tmp_path / "hub.parquet")
    dataset = load_dataset(PARQUET, local)
    assert dataset.train.read(0) == table["image"][0].as_py()


def broken_folder(tmp_path, how):
    root = write_folder(tmp_path / "pictures")
    how(root)
    return root


def file_instead(root):
    shutil.rmtree(root)
    root.write_bytes(b"")


@pytest.mark.parametrize(
    ("how", "rule"),
    [
        (
            lambda root: shutil.rmtree(root / "val"),
            r"must have train/<class>/\* and val/<class>/\*, but .* has no val/",
        ),
        (
            lambda root: shutil.rmtree(root / "val/red"),
            "`classes without images in val <= data.untested_classes` must hold, .* 1",
        ),
        (lambda root: shutil.rmtree(root / "train/red"), "every class must have images in train, but .* none of red"),
        (
            lambda root: [f.unlink() for f in (root / "train/blue").iterdir()],
            "every class must have images in train, but .* has none of blue",
        ),
        (lambda root: [shutil.rmtree(root / s / c) for s in ("train", "val") for c in ("red", "blue")], "has 1"),
        (file_instead, "but .*/pictures is a file; for a Parquet file, set data.source=parquet"),
        (shutil.rmtree, "--data must name the images of data.source=folder, but there is nothing at"),
    ],
)
def test_a_folder_that_is_not_laid_out_so_is_refused(how, rule, tmp_path):
    root = broken_folder(tmp_path, how)
    with pytest.raises(DataError, match=rule):
        load_dataset(FOLDER, environment(tmp_path, root))
    with pytest.raises(DataError, match=rule):
        list_images(FOLDER, root)


def test_untested_classes_are_allowed_when_asked_for(tmp_path):
    root = broken_folder(tmp_path, lambda root: shutil.rmtree(root / "val/red"))
    dataset = load_dataset(replace(FOLDER, {"untested_classes": 1}), environment(tmp_path, root))
    assert np.bincount(dataset.test.labels, minlength=3).tolist() == [4, 4, 0]


@pytest.mark.parametrize(
    ("columns", "rule"),
    [
        ({"image": None}, "must have the columns image and label .* but has label, split"),
        ({"label": None}, "must have the columns image and label .* but has image, split"),
        ({"split": None}, "a Parquet file must have a column 'split' .* has neither"),
        (
            {"split": ["train"] * 24 + ["held-out"] * 12},
            "a split must be train, training, trainset, val, .*, but .* has held-out",
        ),
        ({"label": [None] * 36}, "every image must have a label, but 36 rows of label of .* have none"),
        ({"label": [0.5] * 36}, "labels that are numbers must be whole, and below .*, but label of .* has 0.5"),
        ({"label": [7] * 36}, "`classes >= 2` must hold, but .* has 1"),
        ({"image": ["a"] * 36}, "must hold encoded images, but holds string"),
    ],
)
def test_parquet_that_is_not_laid_out_so_is_refused(columns, rule, tmp_path):
    file = write_parquet(tmp_path / "pictures.parquet", **columns)
    with pytest.raises(DataError, match=rule):
        load_dataset(PARQUET, environment(tmp_path, file))


def test_what_is_no_parquet_is_refused(tmp_path):
    for name, rule in (("notes.txt", "must be a Parquet file"), ("empty", "a folder of \\*.parquet")):
        (tmp_path / name).mkdir() if name == "empty" else (tmp_path / name).write_text("no")
        with pytest.raises(DataError, match=rule):
            load_dataset(PARQUET, environment(tmp_path, tmp_path / name))


def test_a_bank_needs_as_many_images_as_it_contrasts_with(tmp_path):
    local = environment(tmp_path, write_folder(tmp_path / "pictures"))
    spec = replace(imagenet(), {"data.image_size": 16, "batch.size": 8})
    with pytest.raises(SpecError, match=r"bank.negatives <= .* negatives=8192, images=16; negatives=16 fits"):
        dataset_for(spec, local)
    assert not local.results.exists(), "nothing is kept of what is refused"
    dataset_for(replace(spec, {"bank.negatives": 16}), local)
    with pytest.raises(SpecError, match=r"`batch.size <= training images` must hold, but got size=256, images=24"):
        dataset_for(replace(spec, {"bank.negatives": 16, "batch.size": 256}), local)


def test_the_emoji_are_found(data_dir, tmp_path):
    spec = DataSpec(source="parquet", label_column="coarse_label", image_size=64, untested_classes=1)
    dataset = load_dataset(spec, environment(tmp_path, data_dir / "emoji.parquet"))
    assert (len(dataset.train), len(dataset.test), dataset.num_classes) == (6308, 1188, 10)
