"""Sweeps that connect to a Ray that cannot run them."""

import pytest

from mcl_ray.results.store import SweepWriter, read_sweeps
from tests.support.known_trials import sweep
from tests.support.running_command import RunningCommand

NOWHERE = ("--address", "127.0.0.1:1")


@pytest.fixture
def said(tmp_path):
    """What a running says that is known to refuse."""

    def refused(*arguments):
        running = RunningCommand(tmp_path, *arguments)
        try:
            code, output = running.end()
        finally:
            running.close()
        assert code == 2, output
        return output

    return refused


@pytest.fixture
def finished(tmp_path):
    """The folder of a sweep that had no trial."""
    asked = sweep()
    writer = SweepWriter.create(
        tmp_path, asked.name, asked, objective=asked.objective, mode="max", trials_planned=asked.trials
    )
    writer.finish("finished")
    return writer.folder


@pytest.mark.slow
def test_no_sweep_is_left_behind_where_no_cluster_answers(said, tmp_path):
    assert ":1 within 15 s, but none does" in said("digits", "trials=2", *NOWHERE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_sweep_that_is_extended_stays_as_it_was_where_no_cluster_answers(said, tmp_path, finished):
    before = read_sweeps(tmp_path).to_pylist()
    assert ":1 within 15 s, but none does" in said("extend", "latest", "--trials", "1", *NOWHERE)
    assert read_sweeps(tmp_path).to_pylist() == before


@pytest.mark.slow
def test_a_sweep_that_another_process_runs_is_refused_before_ray_is_started(said, finished):
    with SweepWriter.resume(finished, sweep(), trials_planned=10):
        output = said("extend", "latest", "--trials", "1", *NOWHERE)
    assert "another process writes" in output
    assert "joining Ray" not in output
