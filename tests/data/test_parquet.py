"""Parquet as people have it: exports of Hugging Face, Arrow's newer types, labels of any width, and Hive folders."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mcl_ray.config.environment import Environment
from mcl_ray.config.spec import DataSpec
from mcl_ray.data.entries import MAX_DEPTH
from mcl_ray.data.images import list_images
from mcl_ray.data.source import load_dataset
from mcl_ray.errors import DataError
from tests.support.pictures import COLOURS, picture

SPEC = DataSpec(source="parquet", image_size=16)
NAMES = list(COLOURS)


def rows(count, first=0):
    """Images of three classes by turns, and their classes."""
    return [picture(NAMES[i % 3], first + i) for i in range(count)], [i % 3 for i in range(count)]


def write(file, image, label, metadata=None, **others):
    file.parent.mkdir(parents=True, exist_ok=True)
    columns = {"image": image} | ({"label": label} if label is not None else {}) | others
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), file)


def hub(images):
    """Images as Hugging Face's `datasets` writes them."""
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    return pa.array([{"bytes": image, "path": f"{i}.png"} for i, image in enumerate(images)], kind)


def class_label(*names):
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    return {"huggingface": json.dumps({"info": {"features": features}})}


def loaded(path):
    return load_dataset(SPEC, Environment(data=path, results=path.parent / "results"))


def labels(dataset):
    return {
        name: [dataset.class_names[label] for label in split.labels.tolist()] for name, split in dataset.splits.items()
    }


def in_turn(names, count):
    return [names[i % 3] for i in range(count)]


@pytest.mark.parametrize("names", [("zebra", "cat", "dog"), ("10", "9", "-1"), ("a", "a\0", "")])
def test_names_of_classes_are_those_of_the_schema(names, tmp_path):
    for split, count in (("train", 6), ("validation", 3)):
        image, label = rows(count)
        write(tmp_path / f"pq/{split}-00000-of-00001.parquet", hub(image), label, class_label(*names))
    dataset = loaded(tmp_path / "pq")
    assert dataset.class_names == names
    assert labels(dataset) == {"train": in_turn(names, 6), "test": in_turn(names, 3)}


def test_files_whose_schemas_order_the_names_differently_are_joined_by_name(tmp_path):
    for split, names in (("train-0", ("zebra", "cat", "dog")), ("train-1", ("dog", "zebra", "cat")), ("val", None)):
        image, label = rows(3)
        metadata = class_label(*names) if names else None
        write(tmp_path / f"pq/{split}.parquet", image, label if names else ["zebra", "cat", "dog"], metadata)
    dataset = loaded(tmp_path / "pq")
    assert labels(dataset)["train"] == ["zebra", "cat", "dog", "dog", "zebra", "cat"]
    assert labels(dataset)["test"] == ["zebra", "cat", "dog"]


def test_classes_without_an_image_do_not_count(tmp_path):
    for split in ("train", "validation"):
        write(tmp_path / f"pq/{split}.parquet", rows(6)[0], [1, 3] * 3, class_label("a", "b", "c", "d"))
    assert loaded(tmp_path / "pq").class_names == ("b", "d")


@pytest.mark.parametrize("layout", ["{}-00000-of-00001.parquet", "data/{}.parquet", "default/{}/0000.parquet", "hive"])
def test_three_splits_are_three(layout, tmp_path):
    layout = "split={}/part-0.parquet" if layout == "hive" else layout
    for number, split in enumerate(("train", "validation", "test")):
        image, label = rows(6 - number, first=100 * number)
        write(tmp_path / "pq" / layout.format(split), hub(image), [NAMES[i] for i in label])
    dataset = loaded(tmp_path / "pq")
    assert labels(dataset) == {"train": in_turn(NAMES, 6), "validation": in_turn(NAMES, 5), "test": in_turn(NAMES, 4)}
    assert dataset.validation.read(0) == picture(NAMES[0], 100)
    assert dataset.test.read(3) == picture(NAMES[0], 203)
    held_out = load_dataset(
        SPEC.model_copy(update={"validation_fraction": 0.3}), Environment(data=tmp_path / "pq", results=tmp_path / "r")
    )
    assert labels(held_out) == labels(dataset), "a source's own validation split is validation"
    assert list_images(SPEC, tmp_path / "pq").train_counts(0.3).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("Train-00000-of-00001", "Dev-00000-of-00001"),
        ("data/TRAINING", "data/EVAL"),
        ("photos_train", "photos.valid"),
        ("TrainImages", "TestImages"),
        ("trainset", "my_testset"),
        ("train/valley", "Validation/free-training"),
        ("train/my-test", "test/my-train"),
        ("split=Train/0", "split=Evaluation/0"),
    ],
)
def test_names_of_splits_are_words_of_the_path_in_upper_or_lower_case(train, val, tmp_path):
    for split, count in ((train, 6), (val, 3)):
        write(tmp_path / f"pq/{split}.parquet", *rows(count))
    assert labels(loaded(tmp_path / "pq")) == {"train": in_turn("012", 6), "test": in_turn("012", 3)}


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("values", "or a name with a word for its split .train, training, trainset, .*values.parquet has neither"),
        ("trainers", "or a name with a word for its split .*trainers.parquet has neither"),
        ("my-train-test", "the name of a file must have one split, but my-train-test.parquet has train, test"),
        ("Training-0", "each split must have one name, but .*pq has Training and train"),
        ("Train/0", "each split must have one name, but .*pq has Train and train"),
        ("evaluation", "each split must have one name, but .*pq has evaluation and test"),
    ],
)
def test_names_of_no_split_or_of_two_and_splits_of_two_names_are_refused(name, rule, tmp_path):
    for split in ("train-0", "test-0", name):
        write(tmp_path / f"pq/{split}.parquet", *rows(3))
    with pytest.raises(DataError, match=rule):
        list_images(SPEC, tmp_path / "pq")


def test_splits_of_a_column_are_known_in_upper_and_lower_case(tmp_path):
    write(tmp_path / "x.parquet", *rows(9), split=["train", "Train", "TRAIN"] * 2 + ["Dev", "DEV", "dev"])
    assert labels(loaded(tmp_path / "x.parquet")) == {"train": in_turn("012", 6), "test": in_turn("012", 3)}
    write(tmp_path / "x.parquet", *rows(9), split=["train"] * 6 + ["Dev", "val", "dev"])
    with pytest.raises(DataError, match=r"each split must have one name, but .*x.parquet has dev and val"):
        list_images(SPEC, tmp_path / "x.parquet")


@pytest.mark.parametrize("hidden", [[-1] * 5, [None] * 5, "no column"])
@pytest.mark.parametrize("metadata", [None, class_label(*NAMES)])
def test_a_split_without_labels_is_named_and_left_out(hidden, metadata, tmp_path):
    for split, count in (("train", 6), ("validation", 3)):
        write(tmp_path / f"pq/{split}.parquet", *rows(count), metadata)
    label = None if hidden == "no column" else pa.array(hidden, pa.int64())
    write(tmp_path / "pq/test.parquet", rows(5)[0], label, metadata if label is not None else None)
    dataset = loaded(tmp_path / "pq")
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 6, "test": 3}
    assert dataset.left_out == {"rows of the test split, which has no labels": 5}


@pytest.mark.parametrize("mark", ["", "-1"])
def test_a_split_whose_labels_are_one_text_for_none_is_left_out(mark, tmp_path):
    for split, count in (("train", 6), ("validation", 3)):
        write(tmp_path / f"pq/{split}.parquet", rows(count)[0], in_turn(NAMES, count))
    write(tmp_path / "pq/test.parquet", rows(5)[0], [mark] * 5)
    assert loaded(tmp_path / "pq").left_out == {"rows of the test split, which has no labels": 5}
    write(tmp_path / "pq/train.parquet", rows(6)[0], in_turn([mark, *NAMES[1:]], 6))
    write(tmp_path / "pq/validation.parquet", rows(3)[0], in_turn([mark, *NAMES[1:]], 3))
    write(tmp_path / "pq/test.parquet", rows(3)[0], in_turn([mark, *NAMES[1:]], 3))
    assert list_images(SPEC, tmp_path / "pq").class_names == tuple(sorted([mark, *NAMES[1:]]))


def test_parts_without_rows_and_columns_without_values_may_have_any_type(tmp_path):
    write(tmp_path / "pq/train-0.parquet", *rows(6))
    write(tmp_path / "pq/train-1.parquet", pa.nulls(0), pa.array([], pa.float64()))
    write(tmp_path / "pq/validation.parquet", *rows(3))
    write(tmp_path / "pq/test.parquet", pa.nulls(2), [0, 1])
    dataset = loaded(tmp_path / "pq")
    assert labels(dataset) == {"train": in_turn("012", 6), "test": in_turn("012", 3)}
    assert dataset.left_out == {"rows without an image, as row 0": 2}


def test_minus_one_is_a_class_where_training_images_have_it(tmp_path):
    write(tmp_path / "pq/train.parquet", rows(6)[0], [-1, 1] * 3)
    write(tmp_path / "pq/val.parquet", rows(4)[0], [-1, 1] * 2)
    assert loaded(tmp_path / "pq").class_names == ("-1", "1")


@pytest.mark.parametrize("in_struct", [True, False])
def test_rows_without_images_are_told_at_the_listing(in_struct, tmp_path):
    image, label = rows(9)
    for lacking, name in ((range(9), "all"), ((2, 5), "some")):
        given = pa.array([None if i in lacking else content for i, content in enumerate(image)], pa.binary())
        column = hub(given.to_pylist()) if in_struct else given
        write(tmp_path / f"{name}/train.parquet", column, label)
        write(tmp_path / f"{name}/val.parquet", column if name == "all" else hub(image) if in_struct else image, label)
    with pytest.raises(DataError, match="hold paths, and no images; write" if in_struct else "hold no images; write"):
        list_images(SPEC, tmp_path / "all")
    assert list_images(SPEC, tmp_path / "some").left_out == {"rows without an image, as row 2": 2}
    dataset = loaded(tmp_path / "some")
    assert labels(dataset)["train"] == [NAMES_OF_NUMBERS[i % 3] for i in range(9) if i not in (2, 5)]
    assert [dataset.train.read(i) for i in range(7)] == [image[i] for i in range(9) if i not in (2, 5)]


NAMES_OF_NUMBERS = ("0", "1", "2")


@pytest.mark.parametrize(
    "kind",
    [
        pa.string_view(),
        pa.large_string(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.int32(), pa.large_string()),
    ],
)
def test_names_of_every_kind_of_text(kind, tmp_path):
    image, label = rows(9)
    text = pa.array([NAMES[i] for i in label]).cast(pa.string())
    column = text.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else text.cast(kind)
    split = pa.array(["train"] * 6 + ["val"] * 3, pa.string_view())
    write(tmp_path / "x.parquet", image, column, split=split)
    assert labels(loaded(tmp_path / "x.parquet")) == {"train": in_turn(NAMES, 6), "test": NAMES}


@pytest.mark.parametrize("kind", [pa.binary_view(), pa.large_binary(), "fixed", "struct of views"])
def test_images_of_every_kind_of_bytes(kind, tmp_path):
    image, label = rows(9)
    if kind == "fixed":
        size = max(map(len, image))
        image = [content.ljust(size, b"\0") for content in image]
        kind = pa.binary(size)
    column = pa.array(image, pa.binary_view() if kind == "struct of views" else kind)
    if kind == "struct of views":
        column = pa.StructArray.from_arrays([column], ["bytes"])
    write(tmp_path / "x.parquet", column, label, split=["train"] * 6 + ["val"] * 3)
    dataset = loaded(tmp_path / "x.parquet")
    assert [dataset.train.read(i) for i in range(6)] == image[:6]


@pytest.mark.parametrize("kind", ["uint8", "int64", "large", "fixed", "struct"])
def test_images_may_be_lists_of_numbers(kind, tmp_path):
    image, label = rows(9)
    given = [*image[:2], None, *image[3:]]
    numbers = [None if content is None else list(content) for content in given]
    if kind == "fixed":
        size = max(map(len, image))
        image = [content.ljust(size, b"\0") for content in image]
        column = pa.array([list(content) for content in image], pa.list_(pa.uint8(), size))
    elif kind == "struct":
        column = pa.StructArray.from_arrays([pa.array(numbers, pa.list_(pa.uint8()))], ["bytes"])
    else:
        inner = pa.int64() if kind == "int64" else pa.uint8()
        column = pa.array(numbers, pa.large_list(inner) if kind == "large" else pa.list_(inner))
    write(tmp_path / "x.parquet", column, label, split=["train"] * 6 + ["val"] * 3)
    dataset = loaded(tmp_path / "x.parquet")
    wanted = image[:6] if kind == "fixed" else [*image[:2], *image[3:6]]
    assert [dataset.train.read(i) for i in range(len(dataset.train))] == wanted
    assert dataset.test.read(2) == image[8]
    assert dataset.left_out == ({} if kind == "fixed" else {"rows without an image, as row 2": 1})


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda image: [256, *image], "must hold numbers 0..255, but image of .*x.parquet has: .*256"),
        (lambda image: [-1, *image], "must hold numbers 0..255, but image of .*x.parquet has: .*-1"),
        (lambda image: [None, *image], "must hold numbers 0..255, but image of .*x.parquet has one without a value"),
        (lambda image: [0, *image], "bytes of an encoded image, but the first 6 of image .*x.parquet are none: .*npz"),
        (
            lambda image: [float(number) for number in image],
            "must hold encoded images, but holds list<element: double>",
        ),
        (lambda image: [[number] for number in image], "must hold encoded images, but holds list<element: list<"),
    ],
)
def test_lists_of_other_numbers_are_refused(change, rule, tmp_path):
    image, label = rows(6)
    write(tmp_path / "x.parquet", [change(content) for content in image], label, split=["train"] * 3 + ["val"] * 3)
    with pytest.raises(DataError, match=rule):
        list_images(SPEC, tmp_path / "x.parquet")


@pytest.mark.parametrize(
    "values",
    [
        (pa.array([2**53, 2**53 + 1, 3], pa.int64()), pa.array([2**53, 2**53 + 1, 3], pa.uint64())),
        (pa.array([0, 1, 2], pa.int8()), pa.array([0, 1, 2], pa.uint64())),
        (pa.array([-5, 0, 7], pa.int16()), pa.array([-5, 0, 7], pa.int64())),
        (pa.array(["a", "a\0", "a\0\0"]), pa.array(["a", "a\0", "a\0\0"], pa.large_string())),
        (pa.array(["1", "01", "1.0"]), pa.array(["1", "01", "1.0"], pa.string_view())),
        (pa.array(["é", "e\u0301", "E"]), pa.array(["é", "e\u0301", "E"])),
    ],
)
def test_labels_are_neither_merged_nor_renamed(values, tmp_path):
    train, val = values
    write(tmp_path / "pq/train.parquet", rows(3)[0], train)
    write(tmp_path / "pq/val.parquet", rows(3)[0], val)
    wanted = [str(value) for value in train.to_pylist()]
    assert labels(loaded(tmp_path / "pq")) == {"train": wanted, "test": wanted}


@pytest.mark.parametrize(
    "kind", [pa.float16(), pa.float32(), pa.float64(), pa.decimal128(9, 3), pa.dictionary(pa.int8(), pa.float64())]
)
def test_labels_may_be_whole_numbers_of_any_type(kind, tmp_path):
    whole = pa.array([-2.0, 0.0, 10.0], pa.float64())
    train = whole.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else whole.cast(kind)
    write(tmp_path / "pq/train.parquet", rows(3)[0], train)
    write(tmp_path / "pq/val.parquet", rows(3)[0], pa.array([-2, 0, 10], pa.int8()))
    assert labels(loaded(tmp_path / "pq")) == {"train": ["-2", "0", "10"], "test": ["-2", "0", "10"]}


def test_labels_may_be_booleans_and_whole_numbers_have_the_names_of_the_schema(tmp_path):
    write(tmp_path / "x.parquet", rows(6)[0], [True, False, True] * 2, split=["train"] * 3 + ["val"] * 3)
    assert labels(loaded(tmp_path / "x.parquet")) == {"train": ["1", "0", "1"], "test": ["1", "0", "1"]}
    label = [1.0, 0.0, -0.0, 1.0, 0.0, -1.0]
    write(
        tmp_path / "x.parquet",
        rows(6)[0],
        label,
        class_label("cat", "dog"),
        split=["train"] * 3 + ["val"] * 2 + ["test"],
    )
    assert labels(loaded(tmp_path / "x.parquet")) == {"train": ["dog", "cat", "cat"], "test": ["dog", "cat"]}


@pytest.mark.parametrize(
    ("values", "value"),
    [
        ([1.0, 1.5], "must be whole, and below 9,007,199,254,740,992, but label of .*x.parquet has 1.5"),
        ([1.0, float("nan")], "has nan"),
        ([1.0, float("-inf")], "has -inf"),
        ([1.0, 2.0**53], "has 9007199254740992.0"),
        (pa.array([1.0, 2.0**24], pa.float32()), "must be whole, and below 16,777,216, but .* has 16777216.0"),
        (pa.array([1.0, 2049.5]).cast(pa.float16(), safe=False), "must be whole, and below 2,048, but .* has 2050.0"),
        (pa.array([1.0, 1.25]).cast(pa.decimal128(9, 2)), "that are numbers must be whole, but .* has 1.25"),
    ],
)
def test_labels_of_numbers_that_are_not_whole_are_refused(values, value, tmp_path):
    write(tmp_path / "x.parquet", rows(2)[0], values, split=["train", "train"])
    with pytest.raises(DataError, match=value):
        list_images(SPEC, tmp_path / "x.parquet")


def test_numbers_and_names_are_not_mixed(tmp_path):
    write(tmp_path / "pq/train.parquet", rows(3)[0], [0, 1, 2])
    write(tmp_path / "pq/val.parquet", rows(3)[0], ["0", "1", "2"])
    with pytest.raises(DataError, match="labels must be all numbers or all names, but got numbers .0. and names .'0'"):
        list_images(SPEC, tmp_path / "pq")


@pytest.mark.parametrize("values", [("cat", "dog", "zebra"), ("2", "10", "-3"), ("01", "1", "10"), ("a b", "a/b", "é")])
def test_hive_folders_may_hold_label_and_split(values, tmp_path):
    for value in values:
        folder = value.replace("/", "%2F").replace(" ", "%20")
        write(tmp_path / f"pq/split=train/label={folder}/0.parquet", rows(3)[0], None)
        write(tmp_path / f"pq/split=val/label={folder}/0.parquet", rows(2)[0], None)
    (tmp_path / "pq/_SUCCESS").touch()
    (tmp_path / "pq/split=train/._x.parquet").write_bytes(b"AppleDouble")
    (tmp_path / "pq/README.md").touch()
    dataset = loaded(tmp_path / "pq")
    assert dataset.class_names == tuple(sorted(values, key=int if "2" in values else str))
    assert np.bincount(dataset.train.labels).tolist() == [3, 3, 3]
    assert dataset.left_out == {"files that are not *.parquet, as README.md": 1}


@pytest.mark.parametrize("column", ["label", "split"])
def test_a_hive_folder_of_rows_without_a_value_is_no_value(column, tmp_path):
    for split, label in (("train", "a"), ("train", "b"), ("val", "a"), ("val", "b"), ("val", "c")):
        folder = {"split": split, "label": label} | ({column: "__HIVE_DEFAULT_PARTITION__"} if label == "c" else {})
        write(tmp_path / f"pq/split={folder['split']}/label={folder['label']}/0.parquet", rows(3)[0], None)
    rule = {"label": "but 3 rows of label of .* have none", "split": "a split must be train.* has None"}
    with pytest.raises(DataError, match=rule[column]):
        list_images(SPEC, tmp_path / "pq")


def test_folders_that_are_links_are_followed(tmp_path):
    write(tmp_path / "pq/train/0.parquet", *rows(6))
    write(tmp_path / "elsewhere/1.parquet", *rows(3))
    write(tmp_path / "pq/val.parquet", *rows(3))
    (tmp_path / "pq/train/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pq/train/loop").symlink_to(tmp_path / "pq")
    for link, target in (("nothing", "nowhere"), ("itself", "itself.parquet"), ("through", "val.parquet/x")):
        (tmp_path / f"pq/{link}.parquet").symlink_to(target)
    dataset = loaded(tmp_path / "pq")
    assert labels(dataset) == {"train": in_turn("012", 9), "test": in_turn("012", 3)}
    assert dataset.left_out == {"links to nothing, or special files, as itself.parquet": 3}


def test_files_that_are_missing_by_the_names_of_the_others_are_named(tmp_path):
    for name in ("train-00000-of-00003", "train-00002-of-00003", "validation-00000-of-00001", "test-00000-of-00001-1f"):
        write(tmp_path / f"pq/data/{name}.parquet", *rows(3))
    left_out = list_images(SPEC, tmp_path / "pq").left_out
    assert left_out == {"files that are missing, as data/train-00001-of-00003.parquet": 1}
    write(tmp_path / "pq/data/train-00001-of-00003-2e.parquet", *rows(3))
    assert list_images(SPEC, tmp_path / "pq").left_out == {}


@pytest.mark.parametrize(
    ("split", "rule"),
    [
        ([["train"]] * 6, "must hold names of splits, but got: Unsupported cast from list"),
        ([{"name": "train"}] * 6, "must hold names of splits, but got: Unsupported cast from struct"),
        (pa.array([b"\xff"] * 6).view(pa.string()), "must hold names of splits, but got: 'utf-8' codec"),
        ([None] * 6, "a split must be train.* has None"),
    ],
)
def test_a_column_of_splits_that_holds_others_is_refused(split, rule, tmp_path):
    write(tmp_path / "x.parquet", *rows(6), split=split)
    with pytest.raises(DataError, match=rule):
        list_images(SPEC, tmp_path / "x.parquet")


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    image, label = rows(6)
    table = pa.Table.from_arrays([pa.array(image), pa.array(label), pa.array(label)], ["image", "label", "label"])
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(DataError, match="must have each column once, but has label twice"):
        list_images(SPEC, tmp_path / "train.parquet")


@pytest.mark.parametrize("name", ["image", "label", "split"])
def test_a_file_whose_names_are_damaged_is_refused(name, tmp_path):
    write(tmp_path / "x.parquet", *rows(6), split=["train"] * 6)
    content = (tmp_path / "x.parquet").read_bytes()
    places = [at for at in range(len(content)) if content[at : at + len(name)] == name.encode()]
    assert len(places) >= 2
    for place in places:
        damaged = bytearray(content)
        damaged[place + 1] = 0xFF
        (tmp_path / "x.parquet").write_bytes(damaged)
        with pytest.raises(DataError, match=r"x\.parquet"):
            list_images(SPEC, tmp_path / "x.parquet")


def test_a_copy_that_is_damaged_later_is_noticed_as_it_is_read(tmp_path):
    write(tmp_path / "x.parquet", *rows(9), split=["train"] * 6 + ["val"] * 3)
    dataset = loaded(tmp_path / "x.parquet")
    content = bytearray(dataset.train.encoded.file.read_bytes())
    content[len(picture(NAMES[0], 0)) + 20] ^= 1
    dataset.train.encoded.file.write_bytes(content)
    assert dataset.train.read(0) == picture(NAMES[0], 0)
    with pytest.raises(OSError, match=r"its copy in .*images.bin is damaged"):
        dataset.train.read(1)
    assert loaded(tmp_path / "x.parquet").train.read(1) == picture(NAMES[1], 1)


def test_a_folder_of_files_that_is_nested_too_deep_is_an_error(tmp_path):
    write(tmp_path.joinpath("pq", *"d" * MAX_DEPTH, "train.parquet"), *rows(6))
    write(tmp_path / "pq/val.parquet", *rows(3))
    assert len(loaded(tmp_path / "pq").train) == 6
    tmp_path.joinpath("pq", *"d" * (MAX_DEPTH + 1)).mkdir()
    with pytest.raises(DataError, match=f"nested at most {MAX_DEPTH} deep, but "):
        loaded(tmp_path / "pq")
