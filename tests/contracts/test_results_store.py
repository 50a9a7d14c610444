"""The contract of a results store: what one machine records, another reads, resumes and adds to.

A local store is a folder that both machines see; a remote one is an S3-compatible store, of which each has a replica.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mcl_ray.config.environment import Environment
from mcl_ray.errors import StoreError
from mcl_ray.object_store import Uri
from mcl_ray.results.remote import pull
from mcl_ray.results.store import (
    EpochRow,
    RunWriter,
    SweepWriter,
    open_results,
    read_epochs,
    read_runs,
    read_spec,
    read_sweeps,
    read_unreadable,
    state_of,
)
from tests.support.s3 import Store, serving
from tests.support.synthetic import SweepSpec, epoch_rows, record_epochs, spec

EPOCHS = 4
SPEC = spec(epochs=EPOCHS)
Machine = Callable[[str], Path]


def create_sweep(results: Path) -> SweepWriter:
    return SweepWriter.create(results, "s", SweepSpec(), objective="o", mode="max", trials_planned=1)


def checkpoints_in(folder: Path) -> list[str]:
    """Return the epochs of the checkpoints of a run."""
    return sorted(path.name[:10] for path in (folder / "checkpoints").glob("*.pt"))


class ResultsStoreContract:
    """Tests of a store; the fixture `on` makes this process act as one of a machine, and returns its results folder."""

    @pytest.fixture
    def on(self) -> Machine:
        raise NotImplementedError

    def read_on(self, on: Machine, name: str) -> Path:
        """Return the results folder of a machine, with what is in the store now."""
        results = on(name)
        pull.fetch(results)
        return results

    def finished_run(self, results: Path) -> RunWriter:
        with RunWriter.create(results, SPEC, searched={"losses.alpha": 0.1}, trial_id="7") as writer:
            record_epochs(writer, *range(1, EPOCHS + 1))
            writer.finish("finished")
        return writer

    def test_a_run_is_read_as_it_was_written(self, on):
        results = on("a")
        writer = self.finished_run(results)
        runs, figures = read_runs(results), read_epochs(results)
        other = self.read_on(on, "b")
        assert (read_runs(other), read_epochs(other)) == (runs, figures)
        assert read_spec(other / "runs" / writer.run_id) == SPEC
        (run,) = runs.to_pylist()
        assert (run["state"], run["epochs_done"], run["searched"]) == ("finished", EPOCHS, '{"losses.alpha":0.1}')
        assert len(figures) == EPOCHS * len(epoch_rows(1, 2, 60))

    def test_an_epoch_is_read_once_it_is_recorded(self, on):
        writer = RunWriter.create(on("a"), SPEC)
        for epoch in range(1, EPOCHS + 1):
            on("a")
            record_epochs(writer, epoch)
            other = self.read_on(on, "b")
            assert read_runs(other)["epochs_done"].to_pylist() == [epoch]
            assert set(read_epochs(other)["epoch"].to_pylist()) == set(range(1, epoch + 1))
        on("a")
        writer.close()

    def test_a_run_is_resumed_on_another_machine_from_its_checkpoints(self, on):
        writer = RunWriter.create(on("a"), SPEC)
        record_epochs(writer, 1, 2)
        writer.close()  # as if its process was killed
        with RunWriter.begin(on("b"), writer.run_id, SPEC) as second:
            assert (second.attempt, checkpoints_in(second.folder)) == (2, ["epoch-0001", "epoch-0002"])
            record_epochs(second, 3)
        with RunWriter.begin(on("a"), writer.run_id, SPEC) as third:
            assert (third.attempt, checkpoints_in(third.folder)) == (3, ["epoch-0002", "epoch-0003"])
            record_epochs(third, 4)
            third.finish("finished")
        results = self.read_on(on, "b")
        assert state_of(results / "runs" / writer.run_id) == "finished"
        rows = read_epochs(results).to_pylist()
        assert {row["epoch"]: row["attempt"] for row in rows} == {1: 1, 2: 1, 3: 2, 4: 3}
        assert len(rows) == EPOCHS * len(epoch_rows(1, 2, 60))

    @pytest.mark.slow
    def test_of_two_writers_of_a_run_one_gets_an_error_and_records_nothing(self, on):
        first = RunWriter.create(on("a"), SPEC)
        record_epochs(first, 1)

        def write_twice() -> None:
            with RunWriter.begin(on("b"), first.run_id, SPEC) as second:  # refused where a lock reaches both machines
                record_epochs(second, 2)
                on("a")
                record_epochs(first, 2, 3)  # refused where the store has a later attempt

        with pytest.raises(StoreError):
            write_twice()
        assert read_runs(self.read_on(on, "c"))["epochs_done"].to_pylist() in ([1], [2])
        on("a")
        first.close()

    def test_a_failure_is_read_with_its_reason(self, on):
        with pytest.raises(ZeroDivisionError), RunWriter.create(on("a"), SPEC):
            raise ZeroDivisionError("no")
        (run,) = read_runs(self.read_on(on, "b")).to_pylist()
        assert (run["state"], run["error_type"], run["error"]) == ("failed", "ZeroDivisionError", "no")

    def test_figures_are_added_to_a_finished_run_on_another_machine(self, on):
        name = self.finished_run(on("a")).run_id
        results = self.read_on(on, "b")
        with RunWriter.amend(results / "runs" / name) as writer:
            writer.record_epoch(EPOCHS, [EpochRow("mean", "test", "top1", 12.5)])
            writer.record_unreadable(("a.png",))
            writer.finish("finished")
        results = self.read_on(on, "a")
        last = [row["value"] for row in read_epochs(results).to_pylist() if row["epoch"] == EPOCHS]
        assert last == [12.5]
        assert read_unreadable(results / "runs" / name) == ["a.png"]
        assert state_of(results / "runs" / name) == "finished"

    def test_runs_and_sweeps_of_two_machines_have_different_ids(self, on):
        ids = []
        for machine in ("a", "b", "a"):
            results = on(machine)
            ids.append(self.finished_run(results).run_id)
            sweep = create_sweep(results)
            ids.append(sweep.sweep_id)
            sweep.finish("finished")
        assert len(set(ids)) == 6

    def test_a_sweep_is_read_and_resumed_on_another_machine_with_its_runs(self, on):
        sweep = create_sweep(on("a"))
        run_id = f"{sweep.sweep_id}-0000-r0"
        with RunWriter.begin(sweep.folder, run_id, SPEC, sweep_id=sweep.sweep_id) as writer:
            record_epochs(writer, 1)
            writer.finish("stopped")
        sweep.record_best(run_id, SPEC)
        sweep.finish("interrupted")
        folder = self.read_on(on, "b") / "sweeps" / sweep.sweep_id
        with SweepWriter.resume(folder, SweepSpec(trials=2), trials_planned=2) as again:
            again.finish("finished")
        results = self.read_on(on, "a")
        (row,) = read_sweeps(results).to_pylist()
        assert (row["state"], row["best_run_id"], row["trials_planned"]) == ("finished", run_id, 2)
        (run,) = read_runs(results).to_pylist()
        assert (run["run_id"], run["sweep_id"], run["state"]) == (run_id, sweep.sweep_id, "stopped")

    def test_what_is_removed_is_removed_everywhere(self, on):
        name = self.finished_run(on("a")).run_id
        pull.remove([on("b") / "runs" / name])
        results = self.read_on(on, "a")
        assert not (results / "runs" / name).exists()


@pytest.fixture(scope="module")
def server() -> Iterator[Store]:
    with serving() as started:
        yield started


class TestLocal(ResultsStoreContract):
    @pytest.fixture
    def on(self, tmp_path):
        open_results(Environment(results=tmp_path / "results"))
        return lambda _: tmp_path / "results"


class TestS3(ResultsStoreContract):
    @pytest.fixture
    def on(self, server, tmp_path, monkeypatch):
        def machine(name):
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
            environment = Environment(store=Uri(server.uri(tmp_path.name))).on_this_node()
            open_results(environment)
            return environment.results

        return machine
