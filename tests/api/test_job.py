"""The driver of a job, as a process of its own: its claim, its exit codes, what it leaves, and how it is resumed."""

import hashlib
import json
import os
import resource
import signal
import sys

import pytest

from mcl_ray.jobs.claims import Attempts, results_of
from mcl_ray.jobs.messages import JobRequest, JobSpec
from mcl_ray.object_store import Uri
from mcl_ray.results.store import read_runs
from tests.support.forked import TRAINING, ForkedProcess
from tests.support.run_progress import hold_in_the_middle
from tests.support.s3 import serving
from tests.support.service import HANGS_AFTER_S, wait_for

FIRST, SECOND = "a" * 32, "b" * 32
LONG = {"epochs": 1000}
"""Fields of a run that trains as long as a test needs it: it is stopped or killed."""


def spec_of(job=FIRST, source_origin=None, **request):
    given = {"kind": "train", "name": "digits", "overrides": {"epochs": 1}} | request
    return JobSpec(request=JobRequest.model_validate(given), origin=job, source_origin=source_origin)


def begin(root, spec, job=FIRST, attempt=1, largest_file=resource.RLIM_INFINITY, **variables):
    """Start a driver; `largest_file` is how many bytes it can write into a file, as if its disk was full."""
    Attempts(root).write(job, attempt, "spec", spec.model_dump(mode="json"))
    command = [sys.executable, "-m", "mcl_ray.job", "--root", str(root), "--job", job, "--attempt", str(attempt)]
    driver = ForkedProcess(command, TRAINING, env=os.environ | {"OMP_NUM_THREADS": "1"} | variables)
    if largest_file != resource.RLIM_INFINITY:
        resource.prlimit(driver.pid, resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    return driver


@pytest.mark.slow
def test_a_run_and_those_that_use_it(tmp_path):
    attempts = Attempts(tmp_path)
    assert begin(tmp_path, spec_of()).wait() == 0
    manifest = attempts.read(FIRST, 1, "manifest")
    folder = results_of(tmp_path, FIRST)
    assert {name.rpartition("/")[2] for name in manifest["files"]} >= {"run.parquet", "report.html"}
    for name, facts in manifest["files"].items():
        assert facts["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert "epoch 1: " in attempts.read_log(FIRST, 1, 0, 99999)[0].decode()
    assert attempts.read(FIRST, 1, "outcome") is None

    assert begin(tmp_path, spec_of()).wait() == 75  # claimed
    evaluation = spec_of(SECOND, FIRST, kind="evaluate", name=None, overrides={}, source=FIRST)
    assert begin(tmp_path, evaluation, SECOND).wait() == 0
    found = json.loads((results_of(tmp_path, SECOND) / "evaluation.json").read_text())
    scores = {(score["member"], score["metric"]): score["value"] for score in found["scores"]}
    (run,) = (folder / "runs").iterdir()
    from mcl_ray.sdk.run import Run

    assert scores["mean", "top1"] == pytest.approx(Run(run).metrics["test/top1/mean"])
    export = spec_of("c" * 32, FIRST, kind="export", name=None, overrides={}, source=FIRST, peer="0")
    assert begin(tmp_path, export, "c" * 32).wait() == 0
    assert f"exporting {run.name}, peer0" in attempts.read_log("c" * 32, 1, 0, 99999)[0].decode()
    assert "export/model.safetensors" in attempts.read("c" * 32, 1, "manifest")["files"]


def test_a_driver_that_cannot_run_says_why(tmp_path):
    bad = spec_of(overrides={"alhpa": 1})
    assert begin(tmp_path, bad).wait() == 2
    outcome = Attempts(tmp_path).read(FIRST, 1, "outcome")
    assert outcome["outcome"] == "failed"
    assert "did you mean 'alpha'" in outcome["reason"]
    assert Attempts(tmp_path).read(FIRST, 1, "manifest") is None


def test_a_driver_imports_plugins_and_says_which_it_cannot(tmp_path):
    assert begin(tmp_path, spec_of(overrides={"plugins": ["nowhere"], "networks": "own"})).wait() == 2
    outcome = Attempts(tmp_path).read(FIRST, 1, "outcome")
    assert (
        "a plugin must be a module that Python can import, but nowhere raises ModuleNotFoundError" in outcome["reason"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_driver_that_is_stopped_is_resumed_by_the_next_attempt(tmp_path, number):
    spec, attempts = spec_of(overrides=LONG), Attempts(tmp_path)
    driver = begin(tmp_path, spec)
    wait_for(lambda: "epoch 2:" in attempts.read_log(FIRST, 1, 0, 99999)[0].decode())
    driver.send_signal(number)
    assert driver.wait(HANGS_AFTER_S) == -signal.SIGINT
    assert attempts.read(FIRST, 1, "outcome")["outcome"] == "interrupted"
    (row,) = read_runs(results_of(tmp_path, FIRST)).to_pylist()
    assert row["state"] == "interrupted"
    short = begin(tmp_path, spec, attempt=2)
    wait_for(lambda: "attempt 2" in attempts.read_log(FIRST, 2, 0, 99999)[0].decode())
    short.kill()
    short.wait()
    (row,) = read_runs(results_of(tmp_path, FIRST)).to_pylist()
    assert (row["attempt"], row["epochs_done"] >= 2) == (2, True)


@pytest.mark.slow
def test_an_attempt_on_another_node_resumes_what_is_in_the_store(tmp_path):
    """The nodes share nothing but the store; the log is in it while the driver runs."""
    with serving() as store:
        root, spec = Uri(store.uri("service")), spec_of(overrides=LONG)
        attempts = Attempts(root)
        driver = begin(root, spec, XDG_CACHE_HOME=str(tmp_path / "one"))
        wait_for(lambda: "epoch 2:" in attempts.read_log(FIRST, 1, 0, 99999)[0].decode())
        driver.send_signal(signal.SIGINT)
        assert driver.wait(HANGS_AFTER_S) == -signal.SIGINT
        other = begin(root, spec, attempt=2, XDG_CACHE_HOME=str(tmp_path / "two"))
        wait_for(lambda: "epoch " in attempts.read_log(FIRST, 2, 0, 99999)[0].decode())
        other.kill()
        other.wait()
        (run,) = {name.split("/")[3] for name in store.objects("service/jobs") if "/results/runs/" in name}
        log = attempts.read_log(FIRST, 2, 0, 99999)[0].decode()
        assert f"run {run}, attempt 2" in log
        assert "epoch 1:" not in log


@pytest.mark.slow
@pytest.mark.parametrize("largest_file", [6_000, 60_000], ids=["at a table", "at a checkpoint"])
def test_a_driver_whose_disk_is_full_says_so_and_a_retry_goes_on(tmp_path, largest_file):
    attempts = Attempts(tmp_path)
    assert begin(tmp_path, spec_of(), largest_file=largest_file).wait() in (1, 2)
    outcome = attempts.read(FIRST, 1, "outcome")
    assert outcome["outcome"] == "failed"
    assert "File too large" in outcome["reason"]
    assert attempts.read(FIRST, 1, "manifest") is None
    retry = spec_of().model_copy(update={"continues": "retry"})
    assert begin(tmp_path, retry, SECOND).wait() == 0
    assert attempts.read(SECOND, 1, "manifest")


@pytest.mark.slow
def test_a_damaged_checkpoint_and_a_truncated_table(tmp_path):
    """The next attempt falls back to the checkpoint before; a table that cannot be read is named, not replaced."""
    spec, attempts = spec_of(overrides={"epochs": 8}), Attempts(tmp_path)
    driver = begin(tmp_path, spec)
    hold_in_the_middle(driver, results_of(tmp_path, FIRST), epochs_done=3)
    driver.kill()
    driver.wait()
    (run,) = (results_of(tmp_path, FIRST) / "runs").iterdir()
    newest = max((run / "checkpoints").glob("epoch-*"))
    newest.write_bytes(newest.read_bytes()[:-100])
    assert begin(tmp_path, spec, attempt=2).wait() == 0
    assert f"{newest.name} is damaged" in attempts.read_log(FIRST, 2, 0, 99999)[0].decode()

    table = run / "run.parquet"
    table.write_bytes(table.read_bytes()[:-100])
    assert begin(tmp_path, spec, attempt=3).wait() != 0
    assert "run.parquet is damaged" in attempts.read(FIRST, 3, "outcome")["reason"]


@pytest.mark.slow
def test_a_driver_that_was_given_up_ends_for_its_successor(tmp_path):
    """Two attempts never write into one folder, and the later one does not fail because the earlier one still runs."""
    spec, attempts = spec_of(overrides=LONG), Attempts(tmp_path)
    orphan = begin(tmp_path, spec)
    wait_for(lambda: "epoch 2:" in attempts.read_log(FIRST, 1, 0, 99999)[0].decode())
    successor = begin(tmp_path, spec, attempt=2)
    assert orphan.wait(HANGS_AFTER_S) == -signal.SIGINT
    wait_for(lambda: "attempt 2" in attempts.read_log(FIRST, 2, 0, 99999)[0].decode())
    assert successor.poll() is None
    successor.kill()
    successor.wait()


def test_claims_in_a_store_that_speaks_s3():
    with serving() as store:
        attempts = Attempts(Uri(store.uri("service")))
        assert not attempts.is_claimed(FIRST, 1)
        assert attempts.take(FIRST, 1, "one")
        assert not attempts.take(FIRST, 1, "two")
        assert attempts.is_claimed(FIRST, 1)
        assert attempts.take(FIRST, 2, "two")
        attempts.write(FIRST, 1, "manifest", {"files": {}})
        assert attempts.read(FIRST, 1, "manifest") == {"files": {}}
        assert attempts.read(FIRST, 2, "manifest") is None
        attempts.write_log(FIRST, 1, b"hello")
        assert attempts.read_log(FIRST, 1, None, 3) == (b"llo", 2, 5)


def test_of_many_claims_one_succeeds(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    attempts = Attempts(tmp_path)
    with ThreadPoolExecutor(16) as pool:
        taken = list(pool.map(lambda number: attempts.take(FIRST, 1, str(number)), range(64)))
    assert sum(taken) == 1
