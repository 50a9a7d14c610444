"""The end of a search whose best run has lost its last checkpoint."""

import pytest

from mcl_ray.config.environment import Environment
from mcl_ray.data.source import dataset_for
from mcl_ray.results.store import RunWriter, SweepWriter, read_epochs, read_sweeps
from mcl_ray.training.recorded_run import train_recorded_run
from searches.conclude import conclude_search, rank
from searches.spec import search_registry

FIELDS = ("trials=1", "epochs=2", "batch.size=240", "per_class=24", "baseline={}", "confirm.configurations=0")


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_damaged_checkpoint_costs_the_test_scores_alone(tmp_path, caplog, damaged):
    sweep = search_registry.digits().with_overrides(FIELDS)
    run = sweep.trial_runs(sweep.own_point)[0]
    environment = Environment(results=tmp_path)
    dataset = dataset_for(run, environment)
    asked = {"objective": sweep.objective, "mode": "max", "trials_planned": 1}
    with SweepWriter.create(tmp_path, sweep.name, sweep, **asked) as writer:
        labels = {"searched": sweep.own_point, "sweep_id": writer.sweep_id, "trial_id": "0000"}
        trial = RunWriter.begin(writer.folder, f"{writer.sweep_id}-0000-r0", run, **labels)
        train_recorded_run(run, dataset, environment, trial)
        before = read_epochs(writer.folder)
        for file in sorted(trial.checkpoints.iterdir())[-damaged:]:
            file.write_bytes(file.read_bytes()[:-1])
        concluded = conclude_search(sweep, rank(sweep, writer.folder), dataset, environment, writer)
    assert read_epochs(writer.folder).equals(before)
    assert list(concluded.test_scores) == []
    assert "is not scored on the test split" in caplog.text
    assert read_sweeps(tmp_path)["state"].to_pylist() == ["finished"]
    assert concluded.best_spec.exists()
