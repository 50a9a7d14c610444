"""Sweeps over images that are decoded: with memory banks, and without labels.

Groups of workers are in tests/cli/test_sweep_options.py.
"""

import pytest

from mcl_ray.results.store import read_epochs, read_runs, read_sweeps
from tests.support.pictures import write_folder
from tests.support.running_command import ALONE, RunningCommand

TINY = ("run.cohort.networks=resnet8", "image_size=16", "batch.size=6", "epochs=2", "scheduler.kind=none")
SCHEDULE = ("run.schedule.kind=cosine", "run.schedule.milestones=[]", "validation_fraction=0.25", "trials=2", *ALONE)


def searched(ray, tmp_path, name, *words):
    data = ("--data", str(write_folder(tmp_path / "pictures")))
    running = RunningCommand(tmp_path / "results", name, *TINY, *SCHEDULE, *words, *data, ray=ray)
    try:
        code, output = running.end()
    finally:
        running.close()
    assert code == 0, output
    runs = read_runs(running.folder).to_pylist()
    assert {run["state"] for run in runs} == {"finished"}
    assert len(runs) == 2
    (sweep,) = read_sweeps(running.folder).to_pylist()
    assert (sweep["state"], sweep["best_run_id"] in {run["run_id"] for run in runs}) == ("finished", True)
    reported = read_epochs(running.folder).to_pylist()
    assert {row["run_id"] for row in reported if row["split"] == "test"} == {sweep["best_run_id"]}
    return output, {row["metric"] for row in reported if row["split"] in ("validation", "test")}


@pytest.mark.slow
def test_peers_without_labels_are_ranked_by_their_neighbours(shared_ray, tmp_path):
    output, metrics = searched(shared_ray, tmp_path, "moco", "queue.keys=12", "neighbours=3", "--readers", "0")
    assert metrics == {"knn_top1", "knn_top5", "knn_agreement"}
    assert "Top-1 kNN accuracy, validation, mean of peers" in output


@pytest.mark.slow
def test_peers_with_memory_banks(shared_ray, tmp_path):
    _, metrics = searched(shared_ray, tmp_path, "imagenet", "bank.negatives=8")
    assert metrics == {"top1", "top5", "agreement"}
