"""The cache of what was read of very many runs: it is used, and whatever happens to it, no answer changes."""

import os
import random
import shutil
import subprocess
import sys

import pytest

from mcl_ray.errors import StoreError
from mcl_ray.results import schema
from mcl_ray.results.record_cache import MIN_UNCACHED
from mcl_ray.results.stop_decision import decide_stop
from mcl_ray.results.store import EpochRow, RunWriter, read_epochs, read_runs
from tests.support.synthetic import spec, write_run

NUM_RUNS = MIN_UNCACHED + 6
FILES = ("runs-000000", "epochs-000000")
INTERRUPTED = NUM_RUNS // 2
"""Number of the run that was not trained to its end."""


def name_of(number):
    return f"s-1-{number:04d}-r0"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with some more runs than are cached, whose files are old."""
    root = tmp_path_factory.mktemp("written") / "s-1"
    for number in range(NUM_RUNS):
        state = "interrupted" if number == INTERRUPTED else "finished"
        write_run(root, spec(num_peers=1, epochs=2), epochs=1, run_id=name_of(number), level=number, state=state)
    for file in root.rglob("*"):
        os.utime(file, (1e9, 1e9))
    return root


@pytest.fixture
def root(written, tmp_path):
    return shutil.copytree(written, tmp_path / "s-1")


def by_single_runs(root):
    """Return the tables as they are read run by run, which no cache takes part in."""
    folders = sorted((root / "runs").iterdir())
    runs = schema.concatenated("runs", map(read_runs, folders))
    order = [("started_at", "ascending"), ("run_id", "ascending")]
    return runs.sort_by(order), schema.concatenated("epochs", map(read_epochs, folders))


def by_cache(root):
    return read_runs(root), read_epochs(root)


def is_cached(root):
    return [(root / ".records" / file).is_file() for file in FILES] == [True, True]


OPENED = []
sys.addaudithook(lambda event, args: OPENED.append(str(args[0])) if event == "open" else None)


def opened_records(root):
    OPENED.clear()
    by_cache(root)
    return [path for path in OPENED if path.startswith(f"{root}/runs/") and path.endswith(".parquet")]


def test_what_was_read_once_is_not_read_from_the_files_of_the_runs_again(root):
    assert len(set(opened_records(root))) == 2 * NUM_RUNS
    assert is_cached(root)
    unfinished = root / "runs" / name_of(INTERRUPTED) / "run.parquet"
    assert set(opened_records(root)) == {str(unfinished)}, "its state does not follow from its record alone"
    assert by_cache(root) == by_single_runs(root)


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_changes_no_answer_and_is_made_again(file, root, caplog):
    expected = by_cache(root)
    path, chance = root / ".records" / file, random.Random(0)
    whole = path.read_bytes()
    flipped = []
    for place in (0, 64, 65, *(chance.randrange(len(whole)) for _ in range(5))):
        flipped.append(bytearray(whole))
        flipped[-1][place] ^= 1 << chance.randrange(8)
    for content in (*flipped, whole[:-1], whole[:100], b""):
        path.write_bytes(content)
        caplog.clear()
        assert by_cache(root) == expected
        assert f"{path} is damaged" in caplog.text
        assert path.read_bytes() == whole
    path.unlink()
    assert by_cache(root) == expected
    assert path.read_bytes() == whole


def test_a_record_that_changed_is_read_again(root):
    by_cache(root)
    with RunWriter.amend(root / "runs" / name_of(3)) as writer:
        writer.record_epoch(2, [EpochRow("mean", "validation", "top1", 99.0)])
        writer.finish("finished")
    decide_stop(root / "runs" / name_of(INTERRUPTED), 1)
    assert by_cache(root) == by_single_runs(root)
    assert read_runs(root)["state"].to_pylist().count("stopped") == 1
    assert 99.0 in read_epochs(root)["value"].to_pylist()
    with RunWriter.begin(root, name_of(5), spec(num_peers=1, epochs=2)):
        states = {row["run_id"]: row["state"] for row in read_runs(root).to_pylist()}
        assert states[name_of(5)] == "running"
    states = {row["run_id"]: row["state"] for row in read_runs(root).to_pylist()}
    assert states[name_of(5)] == "interrupted"


@pytest.mark.parametrize(("name", "read"), [("run.parquet", read_runs), ("epochs-a0001.parquet", read_epochs)])
def test_damage_to_a_record_is_found_even_if_size_and_time_are_those_of_before(name, read, root):
    by_cache(root)
    path = root / "runs" / name_of(7) / name
    before, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns, path.stat().st_ino) == (
        before.st_size,
        before.st_mtime_ns,
        before.st_ino,
    )
    with pytest.raises(StoreError, match=f"{name} is damaged"):
        read(root)


def test_runs_that_come_and_go_are_followed(root):
    by_cache(root)
    shutil.rmtree(root / "runs" / name_of(0))
    write_run(root, spec(num_peers=1, epochs=2), run_id=name_of(NUM_RUNS))
    write_run(root, spec(num_peers=1, epochs=2), run_id="s-1-baseline-r0")
    assert by_cache(root) == by_single_runs(root)
    assert read_runs(root).num_rows == NUM_RUNS + 1


def test_files_that_changed_just_now_are_not_cached_as_a_later_change_may_have_the_same_time(root):
    for file in root.rglob("*.parquet"):
        os.utime(file, (4e9, 4e9))
    assert by_cache(root) == by_single_runs(root)
    assert not (root / ".records").exists()


def test_results_that_can_only_be_read_are_read(root):
    (root / ".records").write_bytes(b"in the way")
    assert by_cache(root) == by_cache(root) == by_single_runs(root)


def test_selected_figures_are_those_of_all_that_are_selected(root):
    def select(rows):
        return rows.filter([name == "mean" for name in rows["member"].to_pylist()])

    for _ in ("without a cache", "with one"):
        assert read_epochs(root, select) == select(by_single_runs(root)[1])


COUNTS_THREADS = """
import sys
from pathlib import Path
from mcl_ray.results.store import read_epochs, read_runs
threads = lambda: len(list(Path("/proc/self/task").iterdir()))
before = threads()
for _ in range(2):
    read_runs(Path(sys.argv[1])), read_epochs(Path(sys.argv[1]))
print(threads() - before)
"""


def test_the_cache_starts_no_threads_as_a_process_that_exits_while_they_start_is_aborted(root):
    done = subprocess.run([sys.executable, "-c", COUNTS_THREADS, str(root)], capture_output=True, text=True, check=True)
    assert (done.stdout, is_cached(root)) == ("0\n", True)
