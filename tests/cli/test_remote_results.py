"""The commands with a remote store, on machines that share only the store, one of which is killed."""

from __future__ import annotations

import signal
import subprocess
import time
from contextlib import contextmanager

import pytest

from mcl_ray.config.environment import replica_folder
from mcl_ray.object_store import Uri
from mcl_ray.results.remote import pull
from mcl_ray.results.store import read_epochs, read_runs, read_sweeps
from tests.support import forked, ray_worker_server
from tests.support.commands import (
    HANGS_AFTER_S,
    TRAINING_IMPORTS,
    command,
    run_forked,
    snapshot,
    surroundings,
)
from tests.support.comparison import assert_ends_alike
from tests.support.ray_nodes import RayNodes
from tests.support.running_command import ALONE, descendants, kill_below, send
from tests.support.s3 import serving

EPOCHS = 12
"""More than are trained while a test looks twice, through the store."""
OVERRIDES = (f"epochs={EPOCHS}", "cohort.size=1", "test=every_epoch")
SWEEP = ("digits", "trials=2", "scheduler.kind=none", "space.cohort.size=null", *ALONE)


@pytest.fixture(scope="module")
def store():
    with serving() as served:
        yield served


class Machines:
    """Machines with a cache folder each, and one more that only reads."""

    def __init__(self, uri, folder, monkeypatch):
        self.uri, self._folder, self._variables = Uri(uri), folder, monkeypatch

    def call(self, machine, *words, **variables):
        process = self._process(machine, *words, **variables)
        done = forked.run(**process, timeout=HANGS_AFTER_S)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def started(self, machine, *words):
        """Start a command, and kill it with all its child processes at the end."""
        with forked.ForkedProcess(**self._process(machine, *words), stdout=subprocess.PIPE) as process:
            try:
                yield process
            finally:
                kill_below(process.pid)

    def look(self, *, checkpoints=False):
        """Fetch the results from the store, and return the folder of the replica."""
        self._variables.setenv("XDG_CACHE_HOME", str(self._folder / "looks"))
        folder = pull.open_replica(self.uri)
        pull.fetch(folder, checkpoints=checkpoints)
        return folder

    def hold_in_the_middle(self, process, title):
        """Stop the training processes when a run has recorded an epoch in the store and has at least two left.

        They train on until the replica of their own machine has one, which is faster to ask than the store.
        """
        deadline = time.monotonic() + HANGS_AFTER_S
        while not list(self._folder.glob("a/**/epochs-*.parquet")):
            assert process.poll() is None, "no epoch was recorded"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        while True:
            held, runs = descendants(process.pid, title), []
            send(held, signal.SIGSTOP)
            if held and self._has_records(folder := self.look()):
                runs = read_runs(folder).to_pylist()
            if any(1 <= run["epochs_done"] <= EPOCHS - 2 for run in runs):
                return
            send(held, signal.SIGCONT)
            assert process.poll() is None, f"no run was seen in its middle: {runs}"
            assert time.monotonic() < deadline
            time.sleep(0.1)

    @staticmethod
    def _has_records(folder):
        return (folder / "runs").exists() or (folder / "sweeps").exists()

    def _process(self, machine, *words, **variables):
        """Options of the process of a command: its arguments, what it has imported, its folder and environment."""
        results = [self.uri] if words[0] in ("report", "table") else ["--results", self.uri]
        modules, workers = forked.TRAINING, {}
        if "--address" in words:
            modules = forked.ON_RAY
        elif words[0] == "sweep":  # it starts a Ray
            modules, workers = forked.ON_RAY, ray_worker_server.variables()
        environment = surroundings() | workers | {"XDG_CACHE_HOME": str(self._folder / machine)} | variables
        arguments = [*command(*words), *results]
        return {"arguments": arguments, "modules": modules, "cwd": self._folder, "env": environment}


@pytest.fixture
def machines(store, tmp_path, monkeypatch):
    return Machines(store.uri(tmp_path.name), tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ("train digits --results {nowhere}", "there is no bucket nowhere"),
        ("train digits --resume --results {empty}", "only a run that was started can be resumed, but s3://"),
        ("train cifar --data {empty}", "data in a store must be an archive, or a prefix that holds cifar-100"),
        ("sweep digits --results {unreachable}", "the store must respond, have its bucket and grant access, but"),
        ("sweep --resume latest --results {nowhere}", "there is no bucket nowhere"),
        ("report {empty}", "results are read from a store with a run or a sweep, but s3://"),
        ("table cifar {empty}", "results are read from a store with a run or a sweep, but s3://"),
    ],
)
def test_a_store_that_cannot_be_used(words, rule, store, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    uris = {"nowhere": store.uri("x", bucket="nowhere"), "empty": store.uri(tmp_path.name)}
    unreachable = "s3://results/x?endpoint_override=127.0.0.1:9&scheme=http"
    seen = run_forked(tmp_path, *words.format(**uris, unreachable=unreachable).split())
    assert (seen.code, seen.stdout) == (2, "")
    assert seen.stderr.startswith("error: ")
    assert seen.stderr.count("\n") == 1
    assert rule in seen.stderr
    assert seen.modules.isdisjoint(TRAINING_IMPORTS)
    assert {name for name in snapshot(tmp_path) if name.partition("/")[0] != "caches"} == set()
    assert store.objects(tmp_path.name) == {}


@pytest.mark.slow
def test_a_killed_run_is_resumed_on_another_machine_and_ends_like_an_uninterrupted_one(machines, tmp_path):
    with machines.started("a", "train", "digits", *OVERRIDES, "--threads", "1") as process:
        machines.hold_in_the_middle(process, "mcl_ray.train")
    output = machines.call("b", "train", "digits", *OVERRIDES, "--threads", "1", "--resume")
    assert ", attempt 2, in s3://results/" in output
    found = machines.look(checkpoints=True)
    (run,) = read_runs(found).to_pylist()
    assert (run["state"], run["attempt"], run["epochs_done"]) == ("finished", 2, EPOCHS)
    output = machines.call("reader", "table", "cifar")
    assert "runs left out: 1 of a cohort or losses without a column" in output
    alone = run_forked(tmp_path, "train", "digits", *OVERRIDES, "--threads", "1", modules=forked.TRAINING)
    assert alone.code == 0
    assert_ends_alike(found, tmp_path / "results", OVERRIDES)


@pytest.mark.slow
def test_a_run_in_a_store_is_exported_into_it_from_any_machine_and_only_once(machines, store, tmp_path):
    machines.call("a", "train", "digits", "epochs=1", "cohort.size=1", "--threads", "1")
    (run,) = read_runs(machines.look())["run_id"].to_pylist()
    folder = f"runs/{run}/export"
    output = machines.call("b", "export", run)
    assert f"wrote {machines.uri.below(f'{folder}/peer0/model.safetensors')}\n" in output
    output = machines.call("b", "export", machines.uri.below(f"runs/{run}"), "--peer", "ensemble")
    assert f"wrote {machines.uri.below(f'{folder}/ensemble/program.pt2')}\n" in output
    names = {name.partition(folder)[2] for name in store.objects(tmp_path.name) if folder in name}
    files = ("README.md", "config.json", "model.safetensors", "program.pt2")
    assert names == {f"/{member}/{file}" for member in ("peer0", "ensemble") for file in files}
    with pytest.raises(AssertionError, match="an export replaces nothing, but s3://"):
        machines.call("c", "export", run)


@pytest.mark.slow
def test_a_killed_sweep_is_resumed_on_another_machine_from_the_store(machines):
    with machines.started("a", "sweep", *SWEEP, f"epochs={EPOCHS}", "--no-dashboard") as process:
        machines.hold_in_the_middle(process, "ray::ImplicitFunc")
    assert process.returncode == -signal.SIGKILL
    machines.call("b", "sweep", "--resume", "latest", "--no-dashboard")
    found = machines.look()
    (sweep,) = read_sweeps(found).to_pylist()
    runs = read_runs(found).to_pylist()
    assert (sweep["state"], [run["state"] for run in runs]) == ("finished", ["finished"] * 2)
    trained = {run["run_id"]: run["attempt"] - (run["run_id"] == sweep["best_run_id"]) for run in runs}
    assert max(trained.values()) >= 2, "not counting the attempt that scores the best run on the test split"
    for run in runs:
        curve = [row["epoch"] for row in read_epochs(found).to_pylist() if _is_loss(row, run)]
        assert curve == list(range(1, EPOCHS + 1))
    assert sweep["best_run_id"] in {run["run_id"] for run in runs}


def _is_loss(row, run):
    return (row["run_id"], row["metric"], row["split"]) == (run["run_id"], "loss", "train")


@pytest.mark.slow
def test_a_cluster_whose_nodes_share_no_disk(machines, store, tmp_path):
    with RayNodes(2, tmp_path, apart=True) as nodes:
        ray = ("--address", nodes.address)
        machines.call("driver", "sweep", *SWEEP, f"epochs={2 * EPOCHS}", "keep_checkpoints=1", *ray, **nodes.variables)
        machines.call("driver", "train", "digits", "epochs=2", "--workers", "2", *ray, **nodes.variables)
    trained = [{path.parent.name for path in cache.rglob("run.parquet")} for cache in nodes.caches]
    found = machines.look(checkpoints=True)
    runs = {run["run_id"]: run for run in read_runs(found).to_pylist()}
    assert {run["state"] for run in runs.values()} == {"finished"}
    assert set.union(*trained) == set(runs), "each on the machine that trained it"
    assert all(trained), "both nodes trained"
    (sweep,) = read_sweeps(found).to_pylist()
    kept = [path.parents[1].name for path in (found / "sweeps").rglob("*.pt")]
    assert kept == [sweep["best_run_id"]] * 2, "a run keeps its last two"
    tested = {row["run_id"] for row in read_epochs(found / "sweeps" / sweep["sweep_id"]).to_pylist() if _is_test(row)}
    assert tested == {sweep["best_run_id"]}
    names = store.objects(tmp_path.name)
    assert not [name for name in names if "/tune/" in name or "/ray/" in name]
    assert any(name.endswith("report/report.html") for name in names)

    output = machines.call("reader", "report")
    assert f"{sweep['sweep_id']}: finished, 2 of 2 trials" in output
    machines.call("another", "sweep", "extend", "latest", "--trials", "1", "--no-dashboard")
    assert len(read_runs(machines.look() / "sweeps" / sweep["sweep_id"])) == 3


def _is_test(row):
    return row["split"] == "test"


def test_each_machine_has_a_replica_of_its_own(machines, monkeypatch, tmp_path):
    looked = machines.look()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    assert replica_folder(machines.uri).name == looked.name
    assert replica_folder(machines.uri) != looked
