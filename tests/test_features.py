"""The benchmark that reads what networks have learned: it can tell those that have from those that have not."""

from __future__ import annotations

import pytest

from benchmarks.features import Strength, read
from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import replace
from mcl_ray.data.source import dataset_for
from mcl_ray.errors import CheckpointError
from mcl_ray.results.store import RunWriter
from mcl_ray.training.recorded_run import train_recorded_run

STRENGTH = Strength(inverse_penalty=0.01, neighbours=20)


@pytest.mark.slow
def test_trained_networks_are_told_from_untrained_ones(tmp_path):
    spec, here = (
        replace(recipes.digits(), {"schedule.epochs": 2}),
        Environment(results=tmp_path, device="cpu", threads=1),
    )
    writer = RunWriter.begin(tmp_path, "run", spec)
    train_recorded_run(spec, dataset_for(spec, here), here, writer)
    readings = read(writer.folder, here, STRENGTH)
    for classifier, trained in readings["trained"].items():
        untrained = readings["untrained"][classifier]
        assert len(trained) == len(untrained) == spec.cohort.size
        assert min(trained) > 94, classifier
        assert max(untrained) < min(trained), classifier


def test_a_folder_without_networks(tmp_path):
    with pytest.raises(CheckpointError, match="has none"):
        read(tmp_path, Environment(results=tmp_path), STRENGTH)
