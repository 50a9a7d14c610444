"""Runs and sweeps whose workers Ray starts, on one machine and on a cluster: what dies is started again."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from mcl_ray.results.store import read_runs, read_sweeps
from tests.support.comparison import figures
from tests.support.held_runs import held_in_the_middle
from tests.support.ray_nodes import RayNodes
from tests.support.running_command import ALONE, ROOT

pytestmark = pytest.mark.slow

EPOCHS = 10
NODES = 3
"""The head, which trains nothing and lives, and two of one core each."""
RUN = ("digits", f"epochs={EPOCHS}")
ASKS_AGAIN = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "2"}
"""Has a group of any size not wait for a lost node as long as it does by default, which is 30 s."""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with RayNodes(NODES, tmp_path_factory.mktemp("cluster"), head_cpus=0) as cluster:
        yield cluster


@pytest.fixture
def all_nodes(nodes):
    """As many as there were before a test killed one."""
    while len(nodes.raylets) < NODES:
        nodes.add_one()
    return nodes


def groups_on(dashboard):
    """What the Ray dashboard tells of groups, to those with this user's token."""
    token = Path("~/.ray/auth_token").expanduser().read_text().strip()
    asked = Request(f"{dashboard}/api/train/v2/runs/v1", headers={"Authorization": f"Bearer {token}"})
    with urlopen(asked) as answer:
        return json.load(answer)["train_runs"]


def test_a_killed_worker_changes_nothing_and_torchrun_trains_the_same(start_command, tmp_path):
    running = start_command(*RUN, "--workers", "2", command="train", dashboard=True)
    (dashboard,) = running.until("Ray dashboard: (.*)").groups()
    running.until("epoch 1/")
    with held_in_the_middle(running, tmp_path, running.process.pid, "RayTrainWorker") as workers:
        (group,) = groups_on(dashboard)
        assert group["name"] == read_runs(tmp_path)["run_id"][0].as_py()
        (attempt,) = group["attempts"]
        assert [worker["status"] for worker in attempt["workers"]] == ["ALIVE", "ALIVE"]
        os.kill(workers[-1], signal.SIGKILL)
    code, output = running.end()
    assert code == 0, output
    (run,) = read_runs(tmp_path).to_pylist()
    assert (run["state"], run["epochs_done"]) == ("finished", EPOCHS)
    assert run["attempt"] >= 2

    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    elsewhere = tmp_path / "elsewhere"
    words = ["-m", "mcl_ray.train", *RUN, "--results", str(elsewhere)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*torchrun, *words], cwd=ROOT, check=False, capture_output=True, text=True, env=one_thread)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert figures(folder) == figures(elsewhere)


@pytest.mark.parametrize(
    ("arguments", "variables", "rule"),
    [
        (["--workers", "2", "--cpus-per-worker", "2"], {}, "a worker must fit on one node, but each needs 2 CPU cores"),
        (["--workers", "4"], {}, "4 workers must fit on the nodes, but each needs 1 CPU cores"),
        (
            ["--workers", "2"],
            {"RAY_AUTH_TOKEN": "of-another-cluster"},
            "asks for its token, but this process has another",
        ),
        (["--workers", "2", "--address", "127.0.0.1:1"], {}, ":1 within 15 s, but none does"),
    ],
)
def test_a_cluster_that_cannot_serve_is_told_at_once(nodes, start_command, tmp_path, arguments, variables, rule):
    arguments = arguments if "--address" in arguments else [*arguments, "--address", nodes.address]
    code, output = start_command("digits", *arguments, command="train", variables=nodes.variables | variables).end()
    assert code == 2, output
    assert rule in output
    assert not (tmp_path / "runs").exists()


def test_a_group_waits_aloud_for_another_node_and_goes_on(all_nodes, start_command, tmp_path):
    words = ("--workers", "2", "--address", all_nodes.address)
    running = start_command(*RUN, *words, command="train", variables=all_nodes.variables)
    running.until("epoch 1/")
    with held_in_the_middle(running, tmp_path, all_nodes.pid, "RayTrainWorker"):
        all_nodes.kill_one_with("RayTrainWorker")
    running.until("waiting for room for 2 workers: each needs 1 CPU cores and 0 GPUs, and the nodes have .*: 1 fit")
    all_nodes.add_one()
    code, output = running.end()
    assert code == 0, output
    assert output.count(": 1 fit\n") == 1
    check_went_on(tmp_path)


def test_a_range_goes_on_with_the_workers_that_are_left(all_nodes, start_command, tmp_path):
    words = ("--workers", "1..2", "--address", all_nodes.address)
    running = start_command(*RUN, *words, command="train", variables=all_nodes.variables | ASKS_AGAIN)
    running.until("epoch 1/")
    with held_in_the_middle(running, tmp_path, all_nodes.pid, "RayTrainWorker") as workers:
        assert len(workers) == 2
        all_nodes.kill_one_with("RayTrainWorker")
    code, output = running.end()
    assert code == 0, output
    check_went_on(tmp_path)
    assert not read_runs(tmp_path)["hardware"][0].as_py().startswith("2 workers"), "one was left"


def check_went_on(results):
    """The only run was killed in its middle and finished later, every epoch reported once."""
    (run,) = read_runs(results).to_pylist()
    assert (run["state"], run["epochs_done"]) == ("finished", EPOCHS)
    assert run["attempt"] >= 2
    assert {epoch for epoch, *_ in figures(results)} == set(range(1, EPOCHS + 1))


def test_a_sweep_finishes_though_a_node_dies(all_nodes, start_command, tmp_path):
    space = ("space.cohort.size=null", "scheduler.kind=none", "trials=3", f"epochs={EPOCHS}", *ALONE)
    running = start_command("digits", *space, "--address", all_nodes.address, variables=all_nodes.variables)
    running.until(".*trials at once")
    title = "ImplicitFunc"
    with held_in_the_middle(running, tmp_path, all_nodes.pid, title, num_runs=2):
        all_nodes.kill_one_with(title)
    code, output = running.end()
    assert code == 0, output
    runs = read_runs(tmp_path).to_pylist()
    assert {run["state"] for run in runs} == {"finished"}
    assert len({run["trial_id"] for run in runs}) == len(runs) == 3
    (sweep,) = read_sweeps(tmp_path).to_pylist()
    tested = sweep["best_run_id"]  # in an attempt of its own
    assert max(run["attempt"] - (run["run_id"] == tested) for run in runs) >= 2


def test_a_sweep_that_does_not_fit_on_the_nodes_leaves_nothing_behind(nodes, start_command, tmp_path):
    words = ("--cpus-per-worker", "2", "--address", nodes.address)
    code, output = start_command("digits", *words, variables=nodes.variables).end()
    assert code == 2, output
    assert "a worker must fit on one node, but each needs 2 CPU cores" in output
    assert list(tmp_path.iterdir()) == []
