"""The digits data set of scikit-learn: small, for quick trials, without a download."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from mcl_ray.data.dataset import Dataset, ImageSet, channel_statistics
from mcl_ray.errors import DataError

DIGITS_TRAIN = (142, 146, 142, 146, 145, 145, 145, 143, 139, 144)
"""Number of training images of each class."""
BRIGHTEST = 16
"""Maximum pixel value in scikit-learn's data."""
SIDE = 8
"""Height and width of an image in pixels."""
TEST_SET = bytes.fromhex(
    "000004883524104000064100934205001a00080100240028062c12001000940a009019120420f8a0028110a000080a882044"
    "1524494240a00a0000004004d80000818020004805c400104008a0100005404800301000020ec409000224840083a8013c20"
    "a6980a0000000b08400804a0184802024041c1008004404684376a810216004480004042a0a4180a5000840b8561c6081080"
    "08004c80c02004068e00010882008100380803c008190000100e01008410a0210033282904c044c080680e01028300820088"
    "22a6402c24042108a860809081a00c02820242120138a41500"
)
"""One bit for each of the 1,797 images, the first one in the most significant bit of the first byte: 1 in the test set.

It is the split of scikit-learn's `train_test_split(…, test_size=0.2, stratify=labels, random_state=0)`.
"""


def load_digits() -> Dataset:
    """Load 1,797 handwritten digits of 1×8×8 pixels in a fixed stratified split: 1,437 for training, 360 for test.

    Reads the file that scikit-learn's package holds without importing the package, which takes 2 s of every process.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
        DataError: scikit-learn is installed without its data.
    """
    values = np.loadtxt(_file(), delimiter=",", dtype=np.uint8)
    pixels, labels = values[:, :-1], values[:, -1].astype(np.int64)
    images = np.rint(pixels.reshape(-1, 1, SIDE, SIDE) * (255 / BRIGHTEST)).astype(np.uint8)
    everything = ImageSet(images=images, labels=labels)
    is_test = np.unpackbits(np.frombuffer(TEST_SET, np.uint8), count=len(everything)).astype(bool)
    train_set = everything.subset(np.flatnonzero(~is_test))
    mean, std = channel_statistics(train_set.images)
    return Dataset(
        name="digits",
        class_names=tuple(str(digit) for digit in range(10)),
        mean=mean,
        std=std,
        train=train_set,
        test=everything.subset(np.flatnonzero(is_test)),
    )


def _file() -> Path:
    """Return the compressed table of scikit-learn's digits: a row for each image, 64 pixels and the label."""
    package = find_spec("sklearn")  # finds it, and does not import it
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
    file = Path(package.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    if not file.is_file():
        raise DataError(f"`data.source=digits` needs scikit-learn's file {file}, but it is missing")
    return file
