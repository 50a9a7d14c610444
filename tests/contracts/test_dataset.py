"""The contract of a data set: what loaders, samplers, networks, searches and the dry run rely on.

For a data set of one's own, derive a test class from `DatasetContract` with the fixtures `source` and `data`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import replace
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.cifar import LAYOUTS
from mcl_ray.data.dataset import Dataset, Split
from mcl_ray.data.sampling import build_sampler
from mcl_ray.data.source import load_dataset
from mcl_ray.distributed import BatchShards
from mcl_ray.training.estimate import images_of
from mcl_ray.training.loaders import build_loaders
from tests.support.data import files_of, npz_arrays, tar_of, write_fashion_mnist
from tests.support.pictures import write_folder, write_parquet

CPU = torch.device("cpu")


def pixels(split: Split, index: int) -> bytes:
    """Return one image of a split as bytes: encoded, or its pixels."""
    return split.read(index) if hasattr(split, "read") else split.images[index].tobytes()


class DatasetContract:
    """Tests of a source of images, with at least two training images of each class.

    The fixture `source` returns its name in specs, and `data` the path that `--data` names. `fields` are further fields
    of the spec; `has_validation` is True for a source with a validation split of its own.
    """

    fields: dict[str, object] = {}
    has_validation = False

    @pytest.fixture
    def source(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def data(self, source: str, tmp_path: Path) -> Path:
        raise NotImplementedError

    @pytest.fixture
    def environment(self, data: Path, tmp_path: Path) -> Environment:
        return Environment(data=data, results=tmp_path / "results", readers=0)

    @pytest.fixture
    def spec(self, source: str) -> RunSpec:
        """A supervised run with batches of two images of each of two classes."""
        batch = {"batch.size": 4, "batch.per_class": 2, "batch.sampler": "balanced"}
        return replace(recipes.digits(), {"data.source": source} | batch | self.fields)

    @pytest.fixture
    def dataset(self, spec: RunSpec, environment: Environment) -> Dataset:
        return load_dataset(spec.data, environment)

    def test_labels_are_indices_of_the_classes(self, dataset):
        assert len(set(dataset.class_names)) == dataset.num_classes >= 2
        assert all(isinstance(name, str) for name in dataset.class_names)
        for split in dataset.splits.values():
            assert (split.labels.dtype, split.labels.ndim) == (np.int64, 1)
            assert len(split) == len(split.labels) > 0
            assert set(split.labels.tolist()) <= set(range(dataset.num_classes))
        assert set(dataset.train.labels.tolist()) == set(range(dataset.num_classes))

    def test_it_knows_its_name_and_the_statistics_of_its_channels(self, dataset, source):
        channels, height, width = dataset.image_shape
        assert dataset.name == source
        assert len(dataset.mean) == len(dataset.std) == channels
        assert min(height, width) > 0
        assert all(0 < mean < 1 and 0 < std < 1 for mean, std in zip(dataset.mean, dataset.std, strict=True))

    def test_it_is_the_same_at_every_load(self, dataset, spec, environment):
        again = load_dataset(spec.data, environment)
        assert (again.class_names, again.mean, again.std) == (dataset.class_names, dataset.mean, dataset.std)
        assert again.splits.keys() == dataset.splits.keys()
        for name, split in dataset.splits.items():
            assert np.array_equal(again.splits[name].labels, split.labels)
            assert all(pixels(again.splits[name], n) == pixels(split, n) for n in range(len(split)))

    def test_a_subset_has_the_chosen_images_in_order(self, dataset):
        chosen = np.array([len(dataset.train) - 1, 0, 1])
        subset = dataset.train.subset(chosen)
        assert subset.labels.tolist() == dataset.train.labels[chosen].tolist()
        assert [pixels(subset, n) for n in range(3)] == [pixels(dataset.train, int(n)) for n in chosen]
        assert subset.image_shape == dataset.image_shape

    def test_validation_images_are_held_out_of_training_and_the_test_split_stays(self, dataset, spec, environment):
        held_out = load_dataset(spec.data.model_copy(update={"validation_fraction": 0.5}), environment)
        assert held_out.validation is not None
        assert held_out.test.labels.tolist() == dataset.test.labels.tolist()
        if self.has_validation:
            assert len(held_out.train) == len(dataset.train)
            return
        assert dataset.validation is None
        parts = [(pixels(split, n), int(split.labels[n])) for split in (held_out.train, held_out.validation)
                 for n in range(len(split))]  # fmt: skip
        assert sorted(parts) == sorted(
            (pixels(dataset.train, n), int(dataset.train.labels[n])) for n in range(len(dataset.train))
        )
        assert set(held_out.validation.labels.tolist()) == set(range(dataset.num_classes))

    def test_the_dry_run_counts_what_is_loaded(self, dataset, spec, environment):
        images = images_of(spec.data, environment)
        assert images.counts.tolist() == np.bincount(dataset.train.labels).tolist()
        assert images.shape == dataset.image_shape

    def test_every_split_is_loaded_for_scoring(self, dataset, spec, environment):
        loaders = build_loaders(spec, dataset, environment, CPU)
        assert loaders.keys() == dataset.splits.keys()
        for name, split in dataset.splits.items():
            (batch,) = loaders[name].scoring([slice(0, len(split))])
            assert batch.indices.tolist() == list(range(len(split)))
            assert (batch.images.dtype, batch.images.shape[1:]) == (torch.float32, dataset.image_shape)
            assert bool(batch.images.isfinite().all())
            assert loaders[name].labels.tolist() == split.labels.tolist()
            assert not loaders[name].unreadable

    def test_training_images_are_about_normalised(self, dataset, spec, environment):
        (batch,) = build_loaders(spec, dataset, environment, CPU)["train"].scoring([slice(0, len(dataset.train))])
        for channel in batch.images.transpose(0, 1):
            assert float(channel.mean()) == pytest.approx(0, abs=0.3)
            assert float(channel.std()) == pytest.approx(1, abs=0.3)

    def test_an_epoch_has_batches_of_its_images_the_same_for_one_seed(self, dataset, spec, environment):
        loader = build_loaders(spec, dataset, environment, CPU)["train"]
        sampler = build_sampler(dataset.train.labels, spec.batch, spec.seed)
        indices, shares = sampler.epoch(0, 0, 1)[:1], BatchShards(sampler.shares(1))
        first, again = (next(iter(loader.training(indices, spec.seed, 0, shares))) for _ in range(2))
        assert first.images.shape == (spec.batch.size, *dataset.image_shape)
        assert torch.equal(first.images, again.images)
        labels = dataset.train.labels[first.indices.numpy()].tolist()
        assert sorted(Counter(labels).values()) == [2, 2], "two images of each of two classes"


class TestDigits(DatasetContract):
    @pytest.fixture
    def source(self):
        return "digits"

    @pytest.fixture
    def data(self, tmp_path):
        return tmp_path


class TestCifar(DatasetContract):
    fields = {"data.checksum": "off"}

    @pytest.fixture(params=LAYOUTS)
    def source(self, request):
        return request.param

    @pytest.fixture
    def data(self, source, tmp_path):
        layout = LAYOUTS[source]
        archive = tar_of({f"{layout.folder}/{name}": content for name, content in files_of(layout).items()})
        (tmp_path / "images.tar.gz").write_bytes(archive)
        return tmp_path / "images.tar.gz"


class TestNpz(DatasetContract):
    has_validation = True

    @pytest.fixture
    def source(self):
        return "npz"

    @pytest.fixture
    def data(self, tmp_path):
        np.savez(tmp_path / "images.npz", **npz_arrays())
        return tmp_path / "images.npz"


class TestTorchvision(DatasetContract):
    @pytest.fixture
    def source(self):
        return "FashionMNIST"

    @pytest.fixture
    def data(self, tmp_path):
        write_fashion_mnist(tmp_path)
        return tmp_path


class TestEncoded(DatasetContract):
    fields = {"data.image_size": 16}

    @pytest.fixture(params=["folder", "parquet"])
    def source(self, request):
        return request.param

    @pytest.fixture
    def data(self, source, tmp_path):
        return write_folder(tmp_path / "folder") if source == "folder" else write_parquet(tmp_path / "images.parquet")
