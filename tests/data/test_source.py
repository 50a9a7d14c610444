from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mcl_ray import register
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import replace
from mcl_ray.config.spec import DataSpec
from mcl_ray.data import source
from mcl_ray.data.arrays import dataset_of_arrays
from mcl_ray.data.cifar import CIFAR100, Layout
from mcl_ray.data.dataset import channel_statistics
from mcl_ray.data.source import load_dataset
from mcl_ray.errors import DataError, SpecError
from tests.support.data import WriteArchive


def test_digits_with_a_validation_split(tmp_path: Path) -> None:
    spec = DataSpec(source="digits", validation_fraction=0.1)
    first, again = load_dataset(spec, Environment(data=tmp_path)), load_dataset(spec, Environment(data=tmp_path))
    assert first.validation is not None
    assert again.validation is not None
    assert len(first.train) + len(first.validation) == 1437
    assert 0.09 < len(first.validation) / 1437 < 0.11
    np.testing.assert_array_equal(first.validation.images, again.validation.images)
    assert load_dataset(DataSpec(source="digits"), Environment(data=tmp_path)).validation is None


def test_cifar_takes_its_checksum_from_the_spec(write_archive: WriteArchive) -> None:
    folder = write_archive().parent
    dataset = load_dataset(DataSpec(checksum="off", validation_fraction=0.25), Environment(data=folder))
    assert dataset.validation is not None
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (9, 3, 6)
    with pytest.raises(DataError, match="must have the checksum"):
        load_dataset(DataSpec(), Environment(data=folder))


def test_download_only_where_nothing_is(
    write_archive: WriteArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[Path] = []

    def fetch(folder: Path, layout: Layout) -> None:
        assert layout == CIFAR100
        fetched.append(folder)
        write_archive()

    monkeypatch.setattr(source, "download_cifar", fetch)
    with pytest.raises(DataError, match="--download"):
        load_dataset(DataSpec(checksum="off"), Environment(data=tmp_path))
    for _ in range(2):
        load_dataset(DataSpec(checksum="off"), Environment(data=tmp_path, download=True))
    assert fetched == [tmp_path]


def test_imagenet_s_statistics_are_of_three_channels():
    with pytest.raises(SpecError, match="requires images of three channels, but those of data.source=digits have 1"):
        load_dataset(DataSpec(source="digits", normalisation="imagenet"), Environment())


def test_the_statistics_are_those_of_the_images_that_are_trained_on(write_archive: WriteArchive) -> None:
    for spec, data in (
        (DataSpec(source="digits", validation_fraction=0.3), Path()),
        (DataSpec(checksum="off", validation_fraction=0.25), write_archive().parent),
    ):
        held = load_dataset(spec, Environment(data=data))
        whole = load_dataset(replace(spec, {"validation_fraction": 0.0}), Environment(data=data))
        assert (held.mean, held.std) == channel_statistics(held.train.images) != (whole.mean, whole.std)
        assert load_dataset(replace(spec, {"normalisation": "measured"}), Environment(data=data)).mean == held.mean


def test_given_statistics_stay_as_they_are(own_registries: None, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 1, 4, 4), dtype=np.uint8)
    arrays = pixels, np.array([0, 1] * 4)
    found = dataset_of_arrays(train=arrays, test=arrays)
    given = dataclasses.replace(found, mean=(0.5,), std=(0.25,))
    register.dataset("measured_ones")(lambda folder, download: found)
    register.dataset("given_ones")(lambda folder, download: given)
    measured, kept = (
        load_dataset(DataSpec(source=name, validation_fraction=0.5), Environment(data=tmp_path))
        for name in ("measured_ones", "given_ones")
    )
    assert (measured.mean, measured.std) == channel_statistics(measured.train.images) != (found.mean, found.std)
    assert (kept.mean, kept.std) == (given.mean, given.std)
