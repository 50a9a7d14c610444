"""Folders as people have them: hidden entries, deeper folders, other files, odd names, three splits, Tiny-ImageNet."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import replace
from mcl_ray.config.recipes import imagenet
from mcl_ray.config.spec import DataSpec
from mcl_ray.data.entries import MAX_DEPTH
from mcl_ray.data.images import list_images
from mcl_ray.data.source import load_dataset
from mcl_ray.errors import DataError
from mcl_ray.reports.dry_run import describe_estimate
from mcl_ray.results.dataset_info import read_dataset_info, write_dataset_info
from mcl_ray.training.estimate import estimate_run
from mcl_ray.training.recorded_run import dataset_info
from tests.support.pictures import COLOURS, picture, write_folder

SPEC = DataSpec(source="folder", image_size=16)


@pytest.fixture
def root(tmp_path):
    return write_folder(tmp_path / "pictures")


def loaded(root):
    return load_dataset(SPEC, Environment(data=root, results=root.parent / "results"))


def counts(dataset):
    return {name: np.bincount(split.labels).tolist() for name, split in dataset.splits.items()}


def test_hidden_entries_are_passed_over(root):
    for file in [file for file in root.rglob("*") if file.is_file()]:
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X")
        for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
            file.with_name(name).write_bytes(b"x")
    for hidden in ("train/.ipynb_checkpoints", "train/red/.thumbnails", "val/__MACOSX", "train/red/@eaDir"):
        shutil.copytree(root / "train/blue", root / hidden)
    dataset = loaded(root)
    assert counts(dataset) == {"train": [8, 8, 8], "test": [4, 4, 4]}
    assert dataset.left_out == {}
    assert dataset.class_names == tuple(COLOURS)


def test_deeper_folders_are_read_and_what_changes_in_them_is_noticed(root):
    deep = root / "train/red/more/and more"
    deep.mkdir(parents=True)
    for number in range(4):
        (root / f"train/red/{number}.{('png', 'jpeg')[number % 2]}").rename(deep / f"{number}.png")
    deep.joinpath("loop").symlink_to(root / "train/red")
    assert counts(loaded(root))["train"] == [8, 8, 8]
    deep.joinpath("new.png").write_bytes(picture("red", 50))
    assert counts(loaded(root))["train"] == [8, 8, 9]
    assert len(loaded(root).train.read(16)) > 50


def test_what_is_left_out_is_counted_and_named_in_plan_and_record(root, tmp_path):
    for number in range(3):
        (root / f"train/red/{number}.txt").write_text("notes")
    (root / "train/red/README").write_text("notes")
    (root / "train/stray.png").write_bytes(picture("red", 1))
    (root / "train/blue/gone.png").symlink_to(tmp_path / "nowhere")
    (root / "test").mkdir()
    (root / "test/0.png").write_bytes(picture("red", 1))
    expected = {
        "files that end in .txt, as train/red/0.txt": 3,
        "files without a suffix, as train/red/README": 1,
        "files of no class in train/, as train/stray.png": 1,
        "links to nothing, or special files, as train/blue/gone.png": 1,
        "files in test/, which is no split with classes, as test/0.png": 1,
    }
    for dataset in (loaded(root), loaded(root)):  # as it is scanned, and from the cache
        assert dataset.left_out == expected
    spec = imagenet().model_copy(update={"data": SPEC, "batch": imagenet().batch.model_copy(update={"size": 8})})
    spec = spec.model_copy(update={"bank": spec.bank.model_copy(update={"negatives": 8})})
    plan = describe_estimate(estimate_run(spec, Environment(data=root)))["left out"]
    assert set(plan.split("; ")) == {f"{count} {words}" for words, count in expected.items()}
    write_dataset_info(tmp_path, dataset_info(loaded(root)))
    assert read_dataset_info(tmp_path).left_out == expected


def test_suffixes_are_those_that_pillow_decodes(root):
    for number, suffix in enumerate((".jfif", ".PGM", ".tif", ".avif")):
        (root / f"train/red/more{number}{suffix}").write_bytes(picture("red", 50 + number))
    assert counts(loaded(root))["train"] == [8, 8, 12]


def test_names_need_not_be_utf_8(root):
    (root / "train/red/0.png").rename(root / "train/red" / os.fsdecode(b"caf\xe9.png"))
    for split in ("train", "val"):
        (root / split / "blue").rename(root / split / os.fsdecode(b"bl\xfc"))
    link = root.parent / os.fsdecode(b"d\xe9j\xe0")
    link.symlink_to(root)
    for data in (root, link):
        dataset = loaded(data)
        assert counts(dataset) == {"train": [8, 8, 8], "test": [4, 4, 4]}
        assert sorted(dataset.class_names) == [r"bl\xfc", "green", "red"]
        names = [dataset.train.name(index) for index in range(24)]
        assert sum(name.endswith(r"caf\xe9.png") for name in names) == 1
        assert all(name.encode() and dataset.train.read(index) for index, name in enumerate(names))


def test_links_that_cannot_be_followed_are_counted_and_named(root):
    for place in ("train/red", "train", "."):
        for name, target in (("itself", "itself"), ("through", "../../train/red/0.png/x"), ("long", "x" * 300)):
            (root / place / name).symlink_to(target)
    dataset = loaded(root)
    assert counts(dataset) == {"train": [8, 8, 8], "test": [4, 4, 4]}
    assert dataset.left_out == {
        "links to nothing, or special files, as train/red/itself": 3,
        "files of no class in train/, as train/itself": 3,
    }


def test_the_error_of_a_missing_split_names_the_folders_that_there_are(root):
    (root / "val").rename(root / "Held-out")
    with pytest.raises(DataError, match=r"but .*pictures has no val/ among Held-out, train$"):
        loaded(root)


def test_names_are_printed_as_one_line_that_controls_no_terminal(root):
    (root / "train/red/0.png").rename(root / "train/red/a\nb\x1b[2J.png")
    (root / "train/red/notes.t\nx").touch()
    dataset = loaded(root)
    names = [Path(dataset.train.name(index)).name for index in range(len(dataset.train))]
    assert r"a\nb\x1b[2J.png" in names
    assert dataset.train.read(names.index(r"a\nb\x1b[2J.png")) == picture("red", 0)
    assert dataset.left_out == {r"files that end in .t\nx, as train/red/notes.t\nx": 1}


THREE = [("val", "test"), ("validation", "test"), ("valid", None), (None, "test"), ("DEV", "Testing"), ("Val", "eval")]


@pytest.mark.parametrize("names", THREE)
def test_three_splits_are_three_and_of_two_the_second_is_the_test_split(names, root):
    (root / "val").rename(root / "held-out")
    for name, number in zip(names, (2, 3), strict=True):
        for colour in COLOURS if name else ():
            (root / name / colour).mkdir(parents=True)
            for index in range(number):
                (root / name / colour / f"{index}.png").write_bytes(picture(colour, 60 + index))
    shutil.rmtree(root / "held-out")
    held_out = [[number] * 3 for name, number in zip(names, (2, 3), strict=True) if name]
    expected = dict(zip(("validation", "test")[-len(held_out) :], held_out, strict=True))
    assert counts(loaded(root)) == {"train": [8, 8, 8]} | expected


def test_names_of_splits_are_known_in_upper_and_lower_case(root):
    (root / "val").rename(root / "Testing")
    (root / "train").rename(root / "TRAINING")
    assert counts(loaded(root)) == {"train": [8, 8, 8], "test": [4, 4, 4]}


@pytest.mark.parametrize(("first", "second"), [("Train", "train"), ("dev", "val"), ("Evaluation", "test")])
def test_two_folders_of_one_split_are_refused(first, second, root):
    shutil.copytree(root / "val", root / first)
    if second == "test":
        shutil.copytree(root / "val", root / "test")
    with pytest.raises(DataError, match=f"each split must have one name, but .*pictures has {first} and {second}$"):
        list_images(SPEC, root)


def tiny_imagenet(root):
    """The layout of Tiny-ImageNet."""
    table = []
    for colour in COLOURS:
        images = root / "train" / colour
        (images / "images").mkdir()
        for file in [file for file in images.iterdir() if file.is_file()]:
            file.rename(images / "images" / f"{colour}_{file.name}")
        (images / f"{colour}_boxes.txt").write_text("x_0.JPEG\t0\t0\t9\t9\n")
    (root / "val/images").mkdir()
    for colour in COLOURS:
        for file in (root / "val" / colour).iterdir():
            name = f"val_{len(table)}.JPEG"
            file.rename(root / "val/images" / name)
            table.append((name, colour))
        (root / "val" / colour).rmdir()
    (root / "test/images").mkdir(parents=True)
    (root / "test/images/test_0.JPEG").write_bytes(picture("red", 9))
    return table


@pytest.mark.parametrize("form", ["val_annotations.txt", "labels.csv", "labels.tsv"])
def test_val_may_be_one_folder_and_a_table(form, root):
    table = tiny_imagenet(root)
    rows = [("file", "class"), *table] if form == "labels.csv" else [(*row, "0", "0", "9", "9") for row in table]
    (root / "val" / form).write_text("".join(("," if form.endswith("csv") else "\t").join(row) + "\n" for row in rows))
    dataset = loaded(root)
    assert counts(dataset) == {"train": [8, 8, 8], "test": [4, 4, 4]}
    for index, label in enumerate(dataset.test.labels):
        assert dict(table)[Path(dataset.test.name(index)).name] == dataset.class_names[label]
    (root / "val/images/val_0.JPEG").unlink()
    (root / "val/images/unknown.png").write_bytes(picture("red", 5))
    left_out = loaded(root).left_out
    assert left_out["rows of the table of val/ without an image, as val/val_0.JPEG"] == 1
    assert left_out["images without a row in the table of val/, as val/images/unknown.png"] == 1
    assert left_out["files in test/, which is no split with classes, as test/images/test_0.JPEG"] == 1


@pytest.mark.parametrize("table", ["Dev/classes.csv", "LOC_Dev_classes.csv", "validation_classes.csv"])
def test_a_table_is_found_by_any_name_of_the_split_and_that_of_the_folder_comes_first(table, root):
    rows = tiny_imagenet(root)
    for name, other in (("train", "Train"), ("val", "Dev"), ("test", "Test")):
        (root / name).rename(root / other)
    (root / table).write_text("".join(",".join(row) + "\n" for row in rows))
    if not table.startswith("validation"):
        (root / "DevelopmentVal_classes.csv").write_text("".join(f"{image},red\n" for image, _ in rows))
    assert counts(loaded(root)) == {"train": [8, 8, 8], "test": [4, 4, 4]}


def test_the_class_of_a_table_is_the_whole_name_before_its_first_word(root):
    table = tiny_imagenet(root)
    for split in ("train", "val"):
        for colour in ("red", "blue"):
            if (root / split / colour).exists():
                (root / split / colour).rename(root / split / {"red": "deep", "blue": "deep red"}[colour])
    named = {"red": "deep", "blue": "deep red", "green": "green"}
    rows = [(image, named[colour]) for image, colour in table]
    (root / "val/labels.csv").write_text("\ufeff" + "".join(f"{image},{name}\r\n" for image, name in rows))
    dataset = loaded(root)
    assert {Path(dataset.test.name(i)).name: dataset.class_names[k] for i, k in enumerate(dataset.test.labels)} == dict(
        rows
    )


@pytest.mark.parametrize(
    ("rows", "rule"),
    [
        (
            "val_0.JPEG,red\nval_0.JPEG,blue\n",
            "an image must have one class, but .*labels.csv has red and blue for val_0",
        ),
        ("val_0.JPEG,red" + " " * 200_000, "labels.csv must be a table of images and classes, but got: field larger"),
    ],
)
def test_a_table_that_contradicts_itself_or_is_none_is_refused(rows, rule, root):
    tiny_imagenet(root)
    (root / "val/labels.csv").write_text(rows)
    with pytest.raises(DataError, match=rule):
        list_images(SPEC, root)


def kaggle(root, place):
    """The layout of ImageNet in Kaggle's archive, below a folder where the table lies; return the folder of train/."""
    folder = root.parent / "kaggle" / place
    folder.parent.mkdir(parents=True, exist_ok=True)
    root.rename(folder)
    rows = ["ImageId,PredictionString"]
    for colour in COLOURS:
        for file in list((folder / "val" / colour).iterdir()):
            name = f"ILSVRC2012_val_{len(rows):08}"
            file.rename(folder / "val" / f"{name}.JPEG")
            rows.append(f"{name},{colour} 85 1 499 272 {colour} 3 4 5 6 ")
        (folder / "val" / colour).rmdir()
    (root.parent / "kaggle/LOC_val_solution.csv").write_text("\n".join(rows) + "\n")
    (root.parent / "kaggle/LOC_train_solution.csv").write_text("ImageId,PredictionString\n0,red 1 2 3 4 \n")
    return folder


@pytest.mark.parametrize("place", [".", "ILSVRC/Data/CLS-LOC"])
def test_the_validation_table_of_imagenet_on_kaggle_is_read_from_beside_val_or_the_top(root, place):
    names = {file.read_bytes(): file.parent.name for file in root.glob("val/*/*")}
    folder = kaggle(root, place)
    dataset = loaded(folder)
    assert counts(dataset) == {"train": [8, 8, 8], "test": [4, 4, 4]}
    for index, label in enumerate(dataset.test.labels):
        assert names[dataset.test.read(index)] == dataset.class_names[label]
    (folder / "val/ILSVRC2012_val_00000001.JPEG").unlink()
    (folder / "val/ILSVRC2012_val_00000099.JPEG").write_bytes(picture("red", 5))
    again = loaded(folder)
    assert len(again.test) == 11
    described = describe_estimate(
        estimate_run(
            replace(imagenet(), {"data.image_size": 16, "batch.size": 4, "bank.negatives": 8}),
            Environment(data=folder, results=root.parent / "results"),
        )
    )
    assert described["data"] == "folder (counted on this machine, the classes of val/ from LOC_val_solution.csv)"
    assert "1 rows of the table of val/ without an image, as val/ILSVRC2012_val_00000001" in described["left out"]
    assert "1 images without a row in the table of val/, as val/ILSVRC2012_val_00000099.JPEG" in described["left out"]


def test_a_table_beside_val_that_is_added_or_changed_is_read_again(root):
    folder = kaggle(root, ".")
    table = folder / "LOC_val_solution.csv"
    text = table.read_text()
    table.unlink()
    with pytest.raises(DataError, match=r"every class must have images in train, but|classes without images in val"):
        loaded(folder)
    table.write_text(text)
    assert counts(loaded(folder))["test"] == [4, 4, 4]
    table.write_text(text.replace("1,blue", "1,red"))
    assert counts(loaded(folder))["test"] == [3, 4, 5]


def test_images_of_no_known_kind_are_named_in_the_error(root):
    for file in (root / "train/red").iterdir():
        file.rename(file.with_suffix(".raw"))
    with pytest.raises(DataError, match=r"has none of red \(left out: 8 files that end in \.raw, as train/red/0\.raw"):
        list_images(SPEC, root)


def test_a_folder_that_is_nested_too_deep_is_an_error(root):
    deepest = root.joinpath("train", "red", *"d" * MAX_DEPTH)
    deepest.mkdir(parents=True)
    (root / "train" / "red" / "0.png").rename(deepest / "0.png")
    assert counts(loaded(root))["train"] == [8, 8, 8]
    (deepest / "d").mkdir()
    with pytest.raises(DataError, match=rf"nested at most {MAX_DEPTH} deep, but .*(/d){{{MAX_DEPTH + 1}}} is deeper$"):
        loaded(root)
