"""Runs and sweeps whose workers Ray starts, on one machine and on a cluster: what dies is started again."""

import os
import signal
import subprocess
import sys
import time

import pytest

from mcl_ray.results.store import read_epochs, read_runs
from tests.followed import ROOT, Door, descendants
from tests.ray_nodes import RayNodes

pytestmark = pytest.mark.slow

EPOCHS = 6
RUN = ("digits", f"epochs={EPOCHS}")


@pytest.fixture
def open_door(tmp_path):
    doors = []

    def open_one(*arguments, **options):
        doors.append(Door(tmp_path, *arguments, **options))
        return doors[-1]

    yield open_one
    for door in doors:
        door.close()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with RayNodes(3, tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def figures(folder):
    """Every figure but the wall clock's."""
    rows = read_epochs(folder).to_pylist()
    places = ("epoch", "split", "metric", "member")
    return {
        tuple(row[name] for name in places): row["value"]
        for row in rows
        if row["metric"] not in ("epoch_time_s", "images_per_s")
    }


def test_a_killed_worker_changes_nothing_and_torchrun_trains_the_same(open_door, tmp_path):
    door = open_door(*RUN, "--workers", "2", door="train")
    door.until("epoch 2/")
    os.kill(descendants(door.process.pid, "RayTrainWorker")[-1], signal.SIGKILL)
    code, output = door.end()
    assert code == 0, output
    (run,) = read_runs(tmp_path).to_pylist()
    assert (run["state"], run["epochs_done"]) == ("finished", EPOCHS)
    assert run["attempt"] >= 2

    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    elsewhere = tmp_path / "elsewhere"
    words = ["-m", "mcl_ray.train", *RUN, "--results", str(elsewhere)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*torchrun, *words], cwd=ROOT, check=True, capture_output=True, env=one_thread)
    (folder,) = (tmp_path / "runs").iterdir()
    assert figures(folder) == figures(elsewhere)


@pytest.mark.parametrize(
    ("arguments", "variables", "rule"),
    [
        (["--workers", "2", "--cpus-per-worker", "2"], {}, "a worker must fit on one node, but it needs 2 CPU cores"),
        (["--workers", "4"], {}, "4 workers must fit on the nodes, but each needs 1 CPU cores"),
        (
            ["--workers", "2"],
            {"RAY_AUTH_TOKEN": "of-another-cluster"},
            "asks for its token, but this process has another",
        ),
        (["--workers", "2", "--address", "127.0.0.1:1"], {}, ":1 within 5 s, but none does"),
    ],
)
def test_a_cluster_that_cannot_serve_is_told_at_once(nodes, open_door, tmp_path, arguments, variables, rule):
    arguments = arguments if "--address" in arguments else [*arguments, "--address", nodes.address]
    code, output = open_door("digits", *arguments, door="train", variables=nodes.variables | variables).end()
    assert code == 2, output
    assert rule in output
    assert not (tmp_path / "runs").exists()


def test_a_run_finishes_though_a_node_dies(nodes, open_door, tmp_path):
    words = ("--workers", "2", "--address", nodes.address)
    door = open_door("digits", "epochs=15", *words, door="train", variables=nodes.variables)
    door.until("epoch 2/")
    nodes.kill_one()
    code, output = door.end()
    assert code == 0, output
    (run,) = read_runs(tmp_path).to_pylist()
    assert (run["state"], run["epochs_done"]) == ("finished", 15)
    assert {epoch for epoch, *_ in figures(tmp_path)} == set(range(1, 16))


def test_a_sweep_finishes_though_a_node_dies(nodes, open_door, tmp_path):
    space = ("space.cohort.size=null", "scheduler.kind=none", "trials=4", "epochs=10")
    door = open_door("digits", *space, "--address", nodes.address, variables=nodes.variables)
    door.until(".*trials at once")
    while not any(row["epochs_done"] >= 2 for row in read_runs(tmp_path).to_pylist()):
        assert door.process.poll() is None, door.end()
        time.sleep(0.2)
    nodes.kill_one()
    code, output = door.end()
    assert code == 0, output
    runs = read_runs(tmp_path).to_pylist()
    assert {run["state"] for run in runs} == {"finished"}
    assert len({run["trial_id"] for run in runs}) == len(runs) == 4
