"""The records of trials are cached as these end, so that the next reader of the sweep opens few files."""

import os

import pytest

from mcl_ray.callbacks import TrialEnd, TrialInfo
from mcl_ray.results import schema
from mcl_ray.results.store import read_epochs, read_runs
from searches.record_caching import RUNS_AT_A_TIME, RecordCaching
from tests.support.synthetic import spec, write_run


@pytest.mark.slow
def test_trials_are_cached_some_time_after_they_ended(tmp_path):
    folder = tmp_path / "sweeps" / "s-1"
    caching = RecordCaching(folder, repeats=2)
    for number in range(RUNS_AT_A_TIME):
        for repeat in range(2):
            run_id = f"s-1-{number:04d}-r{repeat}"
            write_run(
                folder, spec(num_peers=1, epochs=1, seed=repeat), epochs=0, run_id=run_id, trial_id=f"{number:04d}"
            )
            os.utime(folder / "runs" / run_id / "run.parquet", (1e9, 1e9))
        assert not (folder / ".records").exists()
        caching.on_trial_end(TrialInfo(trial_id=f"{number:04d}", point={}), TrialEnd(state="finished"))
    content = (folder / ".records" / "runs-000000").read_bytes()
    assert [f"s-1-{RUNS_AT_A_TIME // 2 + add:04d}-r0".encode() in content for add in (-1, 0)] == [True, False]
    runs, folders = read_runs(folder), sorted((folder / "runs").iterdir())
    assert runs == schema.concatenated("runs", map(read_runs, folders)).sort_by(
        [("started_at", "ascending"), ("run_id", "ascending")]
    )
    assert read_epochs(folder).num_rows == 0
