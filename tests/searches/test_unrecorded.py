"""A sweep whose results cannot be written, which is no failure of a configuration."""

import pytest

from mcl_ray.errors import StoreError
from mcl_ray.results.store import RunWriter, SweepWriter, read_epochs, read_runs, read_sweeps
from tests.support.known_trials import sweep
from tests.support.running_command import ALONE, RunningCommand


def finish(*arguments, **options):
    running = RunningCommand(*arguments, **options)
    try:
        return running.end()
    finally:
        running.close()


@pytest.mark.slow
def test_a_sweep_that_cannot_be_written_is_interrupted_and_resumed(shared_ray, tmp_path):
    fields = ("trials=4", "epochs=3", "scheduler.kind=none", "keep_checkpoints=1", *ALONE)
    running = RunningCommand(tmp_path, "digits", *fields, ray=shared_ray)
    try:
        running.until("sweep ")
        blocked = running.folder / "runs" / f"{running.folder.name}-0001-r0"
        (blocked / "epochs-a0001.parquet").mkdir(parents=True)  # no file can take its place
        code, output = running.end()
    finally:
        running.close()
    (blocked / "epochs-a0001.parquet").rmdir()
    assert code == 2, output
    assert "error: results must be writable, but writing" in output
    command = f"--resume {running.folder.name} --results {tmp_path} --address {shared_ray.address}"
    assert f"interrupted; to resume:\n  python -m mcl_ray.sweep {command}\n" in output
    assert read_sweeps(tmp_path)["state"].to_pylist() == ["interrupted"]
    assert {run["state"] for run in read_runs(tmp_path).to_pylist()} <= {"finished", "interrupted"}
    assert list((blocked / "checkpoints").iterdir())

    code, output = finish(tmp_path, "--resume", "latest", ray=shared_ray)
    assert code == 0, output
    runs = {run["run_id"]: run for run in read_runs(tmp_path).to_pylist()}
    assert [run["state"] for run in runs.values()] == ["finished"] * 4
    assert runs[blocked.name]["attempt"] >= 2
    reported = [row["epoch"] for row in read_epochs(blocked).to_pylist() if row["metric"] == "loss"]
    assert reported == [1, 2, 3]


def test_a_run_and_a_sweep_that_meet_a_full_disk_can_be_resumed(tmp_path):
    asked = sweep()
    writer = SweepWriter.create(tmp_path, "s", asked, objective=asked.objective, mode="max", trials_planned=1)
    with pytest.raises(StoreError), writer, RunWriter.create(writer.folder, asked.run):
        raise StoreError("no space left")
    assert read_sweeps(tmp_path)["state"].to_pylist() == ["interrupted"]
    assert read_runs(tmp_path)["state"].to_pylist() == ["interrupted"]
