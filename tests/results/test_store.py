import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mcl_ray.errors import StoreError, WorkerDiedError
from mcl_ray.results import schema
from mcl_ray.results.store import (
    EpochRow,
    RunWriter,
    SweepWriter,
    find_run,
    find_sweep,
    is_finished,
    read_epochs,
    read_runs,
    read_spec,
    read_sweeps,
    read_unreadable,
    state_of,
)
from tests.support.synthetic import PROVENANCE, SweepSpec, epoch_rows, spec, write_run

WRITES_FOREVER = """
import sys
from pathlib import Path
from mcl_ray.results.store import EpochRow, RunWriter
writer = RunWriter.resume(Path(sys.argv[1]))
print("open", flush=True)
for epoch in range(1, 10_000_000):
    writer.record_epoch(epoch, [EpochRow(f"peer{peer}", "test", "top1", float(epoch)) for peer in range(200)])
    if epoch == 1:
        print("wrote", flush=True)
"""


def writes_forever(folder):
    process = subprocess.Popen([sys.executable, "-c", WRITES_FOREVER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "open\n"
    assert process.stdout.readline() == "wrote\n"
    return process


def kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def value(level):
    return [EpochRow("mean", "validation", "top1", level)]


def curve(path):
    table = read_epochs(path)
    return list(zip(table["epoch"].to_pylist(), table["attempt"].to_pylist(), table["value"].to_pylist(), strict=True))


def test_a_run_is_read_back_as_it_was_written(tmp_path):
    run_spec = spec(epochs=3, alpha=0.5)
    name = write_run(tmp_path, run_spec, searched={"losses.alpha": 0.5}, trial_id="7")
    assert name == f"cifar-{run_spec.digest}-1"
    (row,) = read_runs(tmp_path).to_pylist()
    assert (row["run_id"], row["state"], row["epochs_done"], row["epochs_planned"]) == (name, "finished", 3, 3)
    assert (row["searched"], row["trial_id"], row["sweep_id"]) == ('{"losses.alpha":0.5}', "7", None)
    assert read_spec(tmp_path / "runs" / name) == run_spec
    assert (tmp_path / "runs" / name / "spec.yaml").read_text().startswith("version: 1\nrecipe: cifar\n")
    assert read_epochs(tmp_path).num_rows == 3 * len(epoch_rows(1, 2, 70.0))


def test_the_same_spec_again_gets_the_next_serial_from_any_number_of_writers(tmp_path):
    def claim(_) -> str:
        with RunWriter.create(tmp_path, spec(), provenance=PROVENANCE) as writer:
            return writer.run_id

    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(claim, range(12)))
    assert sorted(int(name.rpartition("-")[2]) for name in names) == list(range(1, 13))


def test_run_ids_are_unique_over_the_sweeps_of_a_root(tmp_path):
    facts = {"objective": "validation/top1/mean", "mode": "max", "trials_planned": 1, "provenance": PROVENANCE}
    names = [write_run(tmp_path, spec(epochs=1))]
    for _ in range(2):
        with SweepWriter.create(tmp_path, "weights", SweepSpec(), **facts) as sweep:
            names.append(write_run(sweep.folder, spec(epochs=1), sweep_id=sweep.sweep_id))
            sweep.finish("finished")
    assert [name.rpartition("-")[2] for name in names] == ["1", "2", "3"]
    assert read_runs(tmp_path)["run_id"].to_pylist() == names
    assert read_sweeps(tmp_path)["state"].to_pylist() == ["finished", "finished"]


def test_a_second_process_cannot_write_the_same_run(tmp_path):
    name = write_run(tmp_path, spec(), state="interrupted", epochs=1)
    process = writes_forever(tmp_path / "runs" / name)
    try:
        with pytest.raises(StoreError, match="one writer at a time"):
            RunWriter.resume(tmp_path / "runs" / name)
        assert read_runs(tmp_path)["state"].to_pylist() == ["running"]
    finally:
        kill(process)


@pytest.mark.slow
def test_readers_see_whole_files_while_a_run_is_written_and_after_it_was_killed(tmp_path):
    folder = tmp_path / "runs" / write_run(tmp_path, spec(), state="interrupted", epochs=1)
    chance = random.Random(0)
    for attempt in range(2, 6):
        process = writes_forever(folder)
        until = time.monotonic() + chance.uniform(0.1, 0.3)
        while time.monotonic() < until:
            assert read_epochs(folder).num_rows % 200 == 0
        kill(process)
        (row,) = read_runs(folder).to_pylist()
        epochs = read_epochs(folder)
        assert (row["attempt"], row["state"]) == (attempt, "interrupted")
        assert set(epochs["attempt"].to_pylist()) == {attempt}
        assert epochs.num_rows == 200 * max(epochs["epoch"].to_pylist())
    RunWriter.resume(folder).close()
    assert not list(folder.glob(".*.tmp"))


def test_a_resumed_run_reads_as_one_clean_curve(tmp_path):
    with RunWriter.create(tmp_path, spec(), provenance=PROVENANCE) as first:
        for epoch in (1, 2, 3, 4, 5):
            first.record_epoch(epoch, value(10.0 + epoch))
    folder = first.folder
    second = RunWriter.resume(folder, provenance=PROVENANCE)
    assert [epoch for epoch, _, _ in curve(folder)] == [1, 2, 3, 4, 5]
    second.record_epoch(3, value(23.0))
    assert curve(folder) == [(1, 1, 11.0), (2, 1, 12.0), (3, 2, 23.0)]
    second.record_epoch(4, value(24.0))
    second.close()
    with RunWriter.resume(folder, provenance=PROVENANCE) as third:
        third.record_epoch(2, value(32.0))
        assert curve(tmp_path) == [(1, 1, 11.0), (2, 3, 32.0)]
        third.finish("finished")


def test_the_wall_time_of_earlier_attempts_counts(tmp_path):
    with RunWriter.create(tmp_path, spec(), provenance=PROVENANCE) as writer:
        time.sleep(0.05)
        writer.record_epoch(1, value(1.0))
    before = read_runs(tmp_path)["wall_time_s"][0].as_py()
    RunWriter.resume(writer.folder, provenance=PROVENANCE).finish("finished")
    assert read_runs(tmp_path)["wall_time_s"][0].as_py() > before > 0.05


def test_an_error_ends_a_run_as_failed_and_is_recorded(tmp_path):
    with pytest.raises(ZeroDivisionError), RunWriter.create(tmp_path, spec(), provenance=PROVENANCE):
        raise ZeroDivisionError("no")
    with pytest.raises(KeyboardInterrupt), RunWriter.create(tmp_path, spec(), provenance=PROVENANCE):
        raise KeyboardInterrupt
    rows = read_runs(tmp_path).to_pylist()
    assert [(row["state"], row["error_type"]) for row in rows] == [
        ("failed", "ZeroDivisionError"),
        ("interrupted", "KeyboardInterrupt"),
    ]


def test_the_latest_run_of_a_spec_is_found(tmp_path):
    run_spec = spec(epochs=2)
    assert find_run(tmp_path, run_spec) is None
    finished = write_run(tmp_path, run_spec)
    failed = write_run(tmp_path, run_spec, state="failed", epochs=1)
    write_run(tmp_path, spec(epochs=2, alpha=7.0))
    assert is_finished(tmp_path / "runs" / finished)
    assert not is_finished(tmp_path / "runs" / failed)
    assert find_run(tmp_path, run_spec) == tmp_path / "runs" / failed


def test_figures_can_be_added_to_a_finished_run_but_it_cannot_be_resumed(tmp_path):
    finished = write_run(tmp_path, spec(epochs=2))
    with pytest.raises(StoreError, match="only an unfinished run can be resumed"):
        RunWriter.resume(tmp_path / "runs" / finished)
    with RunWriter.amend(tmp_path / "runs" / finished) as writer:
        writer.record_epoch(2, [EpochRow("mean", "test", "top1", 12.5)])
        writer.finish("finished")
    rows = read_epochs(tmp_path).to_pylist()
    assert [row["value"] for row in rows if row["epoch"] == 2] == [12.5]
    assert any(row["epoch"] == 1 for row in rows)


def test_a_truncated_or_damaged_file_is_named(tmp_path):
    folder = tmp_path / "runs" / write_run(tmp_path, spec(epochs=3))
    path = folder / "epochs-a0001.parquet"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-1], b"", whole[:40] + bytes(len(whole[40:90])) + whole[90:]):
        path.write_bytes(content)
        with pytest.raises(StoreError, match=r"epochs-a0001\.parquet is damaged"):
            read_epochs(tmp_path)


def test_a_newer_schema_is_refused(tmp_path):
    folder = tmp_path / "runs" / write_run(tmp_path, spec(epochs=1))
    table = schema.from_parquet((folder / "run.parquet").read_bytes(), "runs", "run")
    newer = dict(table.schema.metadata) | {b"mcl_ray.schema_version": str(schema.SCHEMA_VERSION + 1).encode()}
    pq.write_table(table.replace_schema_metadata(newer), folder / "run.parquet")
    with pytest.raises(StoreError, match=r"`schema version <= 1` must hold, but .*run\.parquet has version 2"):
        read_runs(tmp_path)
    pq.write_table(pa.table({"a": [1]}), folder / "run.parquet")
    with pytest.raises(StoreError, match="must have kind='runs' and a version in its metadata"):
        read_runs(tmp_path)


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(StoreError, match="holds none of them"):
        read_runs(tmp_path)
    with pytest.raises(StoreError, match="is not a folder"):
        read_epochs(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="must be writable"):
        RunWriter.create(tmp_path / "file", spec())


def test_a_sweep_keeps_its_best_run_and_can_be_resumed(tmp_path):
    facts = {"objective": "validation/top1/mean", "mode": "max", "trials_planned": 1, "provenance": PROVENANCE}
    with SweepWriter.create(tmp_path, "My <sweep>", SweepSpec(), **facts) as sweep:
        run_id = write_run(sweep.folder, spec(epochs=1), sweep_id=sweep.sweep_id)
        sweep.record_best(run_id, spec(epochs=1))
        with pytest.raises(StoreError, match="one writer at a time"):
            SweepWriter.resume(sweep.folder, SweepSpec(), trials_planned=1)
    with SweepWriter.resume(sweep.folder, SweepSpec(trials=2), trials_planned=2) as again:
        again.finish("finished")
    (row,) = read_sweeps(tmp_path).to_pylist()
    assert (row["name"], row["best_run_id"], row["state"]) == ("My <sweep>", run_id, "finished")
    assert (row["trials_planned"], json.loads(row["spec"])["trials"]) == (2, 2)
    assert sweep.sweep_id.startswith("my-sweep-")
    assert {path.name for path in sweep.folder.iterdir()} >= {"sweep.yaml", "best.yaml", "sweep.parquet", "runs"}


def begin(root, **labels):
    return RunWriter.begin(root, "sweep-1-trial-1", spec(), **labels)


def test_a_run_of_a_given_name_is_one_run_however_often_it_is_started(tmp_path):
    (tmp_path / "runs" / "sweep-1-trial-1").mkdir(parents=True)  # claimed by a writer killed before its record
    with begin(tmp_path, trial_id="trial-1", searched={"losses.alpha": 0.5}) as writer:
        writer.record_epoch(1, value(40.0))
    assert read_runs(tmp_path)["state"].to_pylist() == ["interrupted"]
    with begin(tmp_path) as writer:
        writer.record_epoch(2, value(50.0))
        writer.finish("finished")
    with begin(tmp_path) as writer:
        writer.finish("finished")
    (run,) = read_runs(tmp_path).to_pylist()
    assert (run["attempt"], run["trial_id"], run["searched"]) == (3, "trial-1", '{"losses.alpha":0.5}')
    assert curve(tmp_path) == [(1, 1, 40.0), (2, 2, 50.0)]


READS_AND_COUNTS_THREADS = """
import sys
from pathlib import Path
from mcl_ray.results.store import read_epochs, read_runs
from mcl_ray.analysis.ranking import ranking, summary
threads = lambda: len(list(Path("/proc/self/task").iterdir()))
before = threads()
runs, epochs = read_runs(Path(sys.argv[1])), read_epochs(Path(sys.argv[1]))
ranking(runs, epochs, "validation/top1/mean", "max"), summary(runs, epochs)
print(threads() - before)
"""


def test_reading_starts_no_threads_as_a_process_that_exits_while_they_start_is_aborted(tmp_path):
    write_run(tmp_path, spec())
    done = subprocess.run(
        [sys.executable, "-c", READS_AND_COUNTS_THREADS, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "0\n"


def test_a_run_that_is_amended_keeps_its_state_and_its_time(tmp_path):
    with RunWriter.create(tmp_path, spec()) as writer:
        writer.record_epoch(1, value(50.0))
        writer.finish("stopped")
    (before,) = read_runs(tmp_path).to_pylist()
    writer = RunWriter.amend(writer.folder)
    assert state_of(writer.folder) == "stopped", "also if it is killed now"
    time.sleep(0.5)
    writer.record_epoch(1, value(60.0))
    writer.finish("stopped")
    (after,) = read_runs(tmp_path).to_pylist()
    assert after["state"] == "stopped"
    assert after["wall_time_s"] == pytest.approx(before["wall_time_s"], abs=0.4)


def test_a_run_that_lost_its_workers_can_be_resumed(tmp_path):
    with pytest.raises(WorkerDiedError), RunWriter.create(tmp_path, spec()):
        raise WorkerDiedError("lost")
    (row,) = read_runs(tmp_path).to_pylist()
    assert (row["state"], row["error_type"]) == ("interrupted", "WorkerDiedError")


def test_names_of_images_that_do_not_decode_are_added_up_over_attempts(tmp_path):
    with RunWriter.create(tmp_path, spec()) as writer:
        assert read_unreadable(writer.folder) == []
        writer.record_unreadable(())
        assert not (writer.folder / "unreadable.json").exists()
        writer.record_unreadable(("b.png",))
        writer.record_unreadable(("a.png", "b.png"))
    assert read_unreadable(writer.folder) == ["a.png", "b.png"]
    (writer.folder / "unreadable.json").write_text("[")
    with pytest.raises(StoreError, match="unreadable.json is damaged"):
        read_unreadable(writer.folder)


def new_run(root):
    return RunWriter.create(root, spec())


def new_sweep(root):
    return SweepWriter.create(root, "tiny", SweepSpec(), objective="o", mode="max", trials_planned=1)


@pytest.mark.parametrize(
    ("begin", "name", "read"),
    [(new_run, "run.parquet", read_runs), (new_sweep, "sweep.parquet", read_sweeps)],
)
def test_an_end_that_cannot_be_written_raises_and_changes_nothing(begin, name, read, tmp_path):
    writer = begin(tmp_path)
    moved = (writer.folder / name).rename(writer.folder / "moved")
    (writer.folder / name / "in the way").mkdir(parents=True)  # no file can take its place
    with pytest.raises(StoreError, match="must be writable, but writing"), writer:
        writer.finish("finished")
    assert writer.state == "running"
    (writer.folder / name / "in the way").rmdir()
    (writer.folder / name).rmdir()
    moved.rename(writer.folder / name)
    assert read(writer.folder)["state"].to_pylist() == ["interrupted"]


def create_sweep(root):
    with SweepWriter.create(root, "s", SweepSpec(), objective="o", mode="max", trials_planned=1) as writer:
        writer.finish("finished")
    return writer.folder


def test_the_latest_sweep_is_the_one_that_started_last_also_after_the_clock_was_set_back(tmp_path):
    first = create_sweep(tmp_path)
    (row,) = pq.read_table(first / "sweep.parquet").to_pylist()
    future = row["started_at"] + timedelta(days=400)
    pq.write_table(schema.table("sweeps", [row | {"started_at": future}]), first / "sweep.parquet")
    second = create_sweep(tmp_path)
    third = create_sweep(tmp_path)
    assert find_sweep(tmp_path, "latest") == third
    assert read_sweeps(tmp_path)["sweep_id"].to_pylist() == [first.name, second.name, third.name]


def test_a_damaged_record_of_one_sweep_keeps_no_other_from_starting(tmp_path):
    first = create_sweep(tmp_path)
    (first / "sweep.parquet").write_bytes(b"PAR1")
    assert create_sweep(tmp_path) != first
