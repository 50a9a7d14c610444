"""Records of a trial whose end both its process and the sweep record."""

import threading

import pytest

from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.scoring import Score
from mcl_ray.errors import StoreError
from mcl_ray.results.stop_decision import STOP_FILE
from mcl_ray.results.store import EpochRow, read_runs, recorded_state, state_of
from trainables.trial_job import TRIAL, TrialJob

CONFIG = {TRIAL: "0000"}
ENDS_WITHIN_S = 0.5


@pytest.fixture
def job(tmp_path):
    run = recipes.digits()
    (tmp_path / "sweeps" / "digits-1").mkdir(parents=True)
    return TrialJob(
        sweep=tmp_path / "sweeps" / "digits-1",
        run=run,
        runs_of=lambda _: [run],
        repeats=1,
        objective="validation/top1/mean",
        score=Score(),
        costs=(),
        environment=Environment(results=tmp_path),
    )


@pytest.mark.parametrize("end", ["record_interruption", "record_stop"])
def test_a_run_that_finishes_while_its_folder_is_locked_is_finished(job, end):
    ((_, writer),) = job.begin(CONFIG, None)
    threading.Timer(ENDS_WITHIN_S, writer.finish, ["finished"]).start()
    getattr(job, end)(CONFIG)
    assert state_of(writer.folder) == "finished"


@pytest.mark.parametrize(("end", "state"), [("record_interruption", "interrupted"), ("record_stop", "stopped")])
def test_a_run_whose_process_has_ended_gets_its_end_from_the_sweep(job, end, state):
    ((_, writer),) = job.begin(CONFIG, None)
    writer.close()
    getattr(job, end)(CONFIG)
    assert read_runs(job.sweep)["state"].to_pylist() == [state]


FIGURE = EpochRow("mean", "validation", "top1", 50.0)


def trained(job, epochs):
    """The folder of a run whose process has ended without a word."""
    ((_, writer),) = job.begin(CONFIG, None)
    for epoch in range(1, epochs + 1):
        writer.record_epoch(epoch, [FIGURE])
    writer.close()
    return writer.folder


def test_a_stop_that_was_decided_holds_though_the_sweep_ended_before_the_process_did(job):
    folder = trained(job, 2)
    job.decide_stop(CONFIG, 2)
    assert (state_of(folder), recorded_state(folder)) == ("stopped", "running"), "as after a kill of everything"
    job.record_interruption(CONFIG)
    assert (state_of(folder), recorded_state(folder)) == ("stopped", "stopped")


def test_a_stop_of_an_epoch_that_was_trained_further_or_a_damaged_one_is_none(job):
    folder = trained(job, 2)
    job.decide_stop(CONFIG, 1)
    assert state_of(folder) == "interrupted"
    (folder / STOP_FILE).write_bytes(b'{"epoch"')
    assert state_of(folder) == "interrupted"


def test_a_trial_does_not_make_the_folder_of_its_sweep_again(job):
    job.sweep.rmdir()
    with pytest.raises(StoreError, match="was renamed or removed"):
        next(job.begin(CONFIG, None))
    assert not job.sweep.exists()
