"""Commands under torchrun: two processes that train one run, are refused, killed and resumed together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mcl_ray.errors import UserError
from mcl_ray.results.store import read_runs
from mcl_ray.torchrun import TorchrunEnv, read_torchrun_env
from tests.support import forked
from tests.support.commands import HANGS_AFTER_S, command, run_forked, snapshot, surroundings
from tests.support.comparison import assert_ends_alike, figures
from tests.support.pictures import write_folder
from tests.support.ports import free_port
from tests.support.run_progress import hold_in_the_middle, wait_for_epochs

OVERRIDES = ("epochs=6", "test=every_epoch", "validation_fraction=0.1")
ON_CPUS = ("--device", "cpu")
TRAINING = ("digits", *OVERRIDES, *ON_CPUS)
LONG = ("digits", "epochs=200", *ON_CPUS)


@contextmanager
def two_workers(cwd: Path, *words: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Both processes of `train` with the variables that torchrun sets, killed on leaving if they still run."""
    workers, port = [], free_port()
    for rank in range(2):
        reported = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
        variables = (
            surroundings() | {name: str(value) for name, value in reported.items()} | {"MASTER_ADDR": "127.0.0.1"}
        )
        workers.append(
            forked.ForkedProcess(
                command("train", *words),
                forked.TRAINING,
                cwd=cwd,
                env=variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def train(cwd: Path, *words: str) -> list[tuple[int, str, str]]:
    """How both processes ended: exit code, stdout, stderr."""
    with two_workers(cwd, *words) as workers:
        said = [worker.communicate(timeout=HANGS_AFTER_S) for worker in workers]
        return [(worker.returncode, *words) for worker, words in zip(workers, said, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (("alhpa=1",), "unknown field 'alhpa'; did you mean 'alpha'?"),
        (
            ("batch.size=4",),
            "`workers <= batch.size / batch.per_class` must hold, but got size=4, per_class=4, workers=2; ",
        ),
    ],
)
def test_bad_input_ends_all_and_the_first_says_why(words, rule, tmp_path):
    first, second = train(tmp_path, "digits", *words, *ON_CPUS)
    assert (first[0], first[1]) == (2, "")
    assert first[2].startswith("error: ")
    assert rule in first[2]
    assert first[2].count("\n") == 1
    assert second == (2, "", "")
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize(
    "reported",
    [{"WORLD_SIZE": "2"}, {"WORLD_SIZE": "two"}, {"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0"}],
)
def test_variables_that_contradict_each_other(reported, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, reported[name]) if name in reported else monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=f"numbers the workers from 0, but got .*WORLD_SIZE='{reported['WORLD_SIZE']}'"):
        read_torchrun_env()


def test_devices_are_dealt_out():
    assert TorchrunEnv().device("cuda:3") == "cuda:3"
    assert TorchrunEnv(rank=1, world_size=2, local_rank=1, local_world_size=2).device("cpu") == "cpu"
    with pytest.raises(UserError, match="as each takes a CUDA device of its own, but got cuda:0"):
        TorchrunEnv(world_size=2, local_world_size=2).device("cuda:0")


@pytest.mark.parametrize(("rank", "heard"), [("0", "reported\n"), ("1", "")])
def test_a_worker_that_ends_otherwise_than_well_leaves_at_once(rank, heard):
    """Threads of its group may abort a process that ends slowly, with handlers and modules taken down one by one."""
    lines = (
        "import atexit, sys; from mcl_ray.cli.rank_output import rank_zero_output; atexit.register(print, 'slowly')",
        "with rank_zero_output(): print('reported'); sys.exit(130)",
    )
    variables = surroundings() | {"WORLD_SIZE": "2", "RANK": rank}
    words = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, heard, "")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The results of two workers that nothing happened to, started by torchrun itself."""
    folder = tmp_path_factory.mktemp("whole")
    arguments = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        *command("train", *TRAINING)[1:],
    ]
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=surroundings() | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [done.stdout.count(reported) for reported in ("run digits-", "epoch 1/6 ", "epoch 6/6 ")] == [1, 1, 1]
    (run,) = read_runs(folder / "results").to_pylist()
    assert run["state"] == "finished"
    assert run["hardware"].startswith("2 workers, each on ")
    return folder / "results"


@pytest.mark.slow
def test_workers_that_were_killed_end_as_if_they_had_not_been_to_the_bit(whole, tmp_path):
    with two_workers(tmp_path, *TRAINING) as workers:
        hold_in_the_middle(workers[0], tmp_path / "results", epochs_done=1)
        for worker in workers:
            worker.kill()
    before = figures(tmp_path / "results")
    first, second = train(tmp_path, *TRAINING, "--resume")
    assert (first[0], first[2], second) == (0, "", (0, "", ""))
    assert before.items() <= figures(whole).items()
    assert_ends_alike(tmp_path / "results", whole, OVERRIDES)
    first, second = train(tmp_path, *TRAINING, "--resume")
    assert (first[0], first[1].startswith("nothing left to do: "), second) == (0, True, (0, "", ""))


@pytest.mark.slow
def test_peers_on_different_workers_train_the_figures_of_one_process(tmp_path):
    words = ("digits", "epochs=2", "test=every_epoch", "--threads", "1", *ON_CPUS)
    alone, apart = tmp_path / "alone", tmp_path / "apart"
    for folder in (alone, apart):
        folder.mkdir()
    ended = train(apart, *words, "--parallelism", "cohort")
    assert [code for code, *_ in ended] == [0, 0], ended
    assert run_forked(alone, "train", *words, modules=forked.TRAINING).code == 0
    found, expected = figures(apart / "results"), figures(alone / "results")
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, rel=1e-6)
    (run,) = read_runs(apart / "results").to_pylist()
    assert run["hardware"].startswith("2 workers, 1 to a batch, each on ")
    ended = train(apart, "digits", *words[1:], "cohort.size=1", "--parallelism", "cohort")
    assert [code for code, *_ in ended] == [2, 2]
    assert ended[0][2].endswith("divides, but got workers=2, cohort.size=1\n")


@pytest.mark.slow
def test_a_worker_that_dies_interrupts_the_run_and_is_on_record(tmp_path):
    with two_workers(tmp_path, *LONG) as (first, second):
        wait_for_epochs(tmp_path / "results", 1)
        second.kill()
        _, errors = first.communicate(timeout=HANGS_AFTER_S)
    assert first.returncode == 1
    assert errors.startswith("error: the 2 workers of the run lost each other: ")
    assert errors.count("\n") == 1
    (run,) = read_runs(tmp_path / "results").to_pylist()
    assert (run["state"], run["error_type"]) == ("interrupted", "WorkerDiedError"), "to go on with"


@pytest.mark.slow
def test_ctrl_c_ends_all_and_the_first_says_how_to_go_on(tmp_path):
    with two_workers(tmp_path, *LONG) as workers:
        wait_for_epochs(tmp_path / "results", 2)
        for what in (signal.SIGSTOP, signal.SIGINT, signal.SIGCONT):  # both hear it, before one is gone
            for worker in workers:
                worker.send_signal(what)
        said = [worker.communicate(timeout=HANGS_AFTER_S) for worker in workers]
    assert [worker.returncode for worker in workers] == [130, 130]
    assert said[0][0].endswith("interrupted; the same command with --resume continues after the last finished epoch\n")
    assert (said[0][1], *said[1]) == ("", "", "")
    (run,) = read_runs(tmp_path / "results").to_pylist()
    assert run["state"] == "interrupted"


@pytest.mark.slow
def test_stages_follow_each_other_in_one_group(tmp_path):
    write_folder(tmp_path / "pictures")
    tiny = ("networks=resnet8", "image_size=16", "batch.size=6", "queue.keys=12", "schedule.kind=cosine")
    first = ("moco+lincls", *tiny, "milestones=[]", "epochs=1", "--data", "pictures", "--readers", "0", *ON_CPUS)
    second = ("lincls.epochs=1", "lincls.schedule.kind=cosine", "lincls.milestones=[]")
    ended = train(tmp_path, *first, *second)
    assert [code for code, *_ in ended] == [0, 0], ended
    runs = read_runs(tmp_path / "results").to_pylist()
    assert {(run["recipe"], run["state"]) for run in runs} == {("moco", "finished"), ("lincls", "finished")}
    assert ended[1][1] == "", "the first speaks for both"
