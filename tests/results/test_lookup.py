from pathlib import Path

import pytest

from mcl_ray.config import recipes
from mcl_ray.errors import StoreError
from mcl_ray.results.lookup import named_run
from mcl_ray.results.store import RunWriter, SweepWriter
from tests.support.synthetic import PROVENANCE, SweepSpec


def finished_run(root):
    with RunWriter.create(root, recipes.digits(), provenance=PROVENANCE) as writer:
        writer.finish("finished")
    return writer.folder


@pytest.fixture
def sweep(tmp_path):
    with SweepWriter.create(
        tmp_path,
        "digits",
        SweepSpec(),
        objective="validation/top1/mean",
        mode="max",
        trials_planned=2,
        provenance=PROVENANCE,
    ) as writer:
        yield writer


def test_a_run_is_found_by_its_folder_or_its_id(tmp_path):
    folder = finished_run(tmp_path)
    assert named_run(folder, Path("elsewhere")) == folder
    assert named_run(Path(folder.name), tmp_path) == folder


def test_a_run_of_a_sweep_is_found_by_its_id_and_the_sweep_stands_for_its_best(tmp_path, sweep):
    runs = [finished_run(sweep.folder) for _ in range(3)]
    assert named_run(Path(runs[0].name), tmp_path) == runs[0]
    for name in (sweep.folder, Path(sweep.folder.name)):
        with pytest.raises(StoreError, match="has none; name a run"):
            named_run(name, tmp_path)
    sweep.record_best(runs[1].name, recipes.digits())
    assert named_run(sweep.folder, tmp_path) == named_run(Path(sweep.folder.name), tmp_path) == runs[1]


def test_an_unknown_name_is_refused_with_the_nearest_one(tmp_path):
    folder = finished_run(tmp_path)
    with pytest.raises(StoreError, match=f"but got {folder.name[:-1]}; did you mean {folder.name}"):
        named_run(Path(folder.name[:-1]), tmp_path)
    with pytest.raises(StoreError, match="but got quite-another; .* holds 1 runs and sweeps$"):
        named_run(Path("quite-another"), tmp_path)
    with pytest.raises(StoreError, match="or by its id, but .* is neither"):
        named_run(tmp_path, tmp_path)
