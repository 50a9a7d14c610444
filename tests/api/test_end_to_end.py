"""Jobs by the client, with a real server, a real Ray, the real driver and Ray Tune.

A sweep is killed once, then extended; jobs of every kind have their results in a store.
"""

import contextlib
import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from mcl_ray.client import Client, RefusedError
from tests.support.pictures import write_folder
from tests.support.s3 import serving
from tests.support.service import HANGS_AFTER_S, ServiceProcess, wait_for

DRIVER = f"{sys.executable} -m mcl_ray.job"

TINY = {"epochs": 2, "scheduler.kind": "none", "cohort.size": 2, "space.cohort.size": None}
TINY |= {"baseline": {}, "confirm.configurations": 0}
TRIALS = 8
"""Trials of a sweep that is far from its end when the first one has ended: the log is read some time later."""


def driver_of(job):
    """The process of a job's driver, once it has begun a trial."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"mcl_ray.job" in words and job.encode() in words and b"python" in words[0]:
                return int(folder.name)
    return None


def trials_of(ray):
    """The processes of trials that have begun, also between two of their reports."""
    found = []
    for process in ray.processes():
        with contextlib.suppress(OSError):
            title = Path(f"/proc/{process}/cmdline").read_bytes()
            if b"ray::ImplicitFunc" in title and b"__init__" not in title:
                found.append(process)
    return found


def kill_a_trial(ray):
    """Kill the process of a trial as Linux does where there is no memory for it; whether there was one."""
    for trial in trials_of(ray):
        with contextlib.suppress(ProcessLookupError):
            os.kill(trial, signal.SIGKILL)
            return True
    return False


def test_a_sweep_survives_a_trial_without_memory_and_its_driver_and_is_extended(local_ray, tmp_path):
    service = ServiceProcess(tmp_path, f"sqlite:///{tmp_path / 'jobs.db'}", local_ray, driver=DRIVER)
    with service, Client(f"http://127.0.0.1:{service.port}", key=service.key) as client:
        service.start()
        service.wait_until_ready()
        handle = client.submit("digits", overrides=TINY, trials=TRIALS)
        wait_for(lambda: kill_a_trial(local_ray))
        wait_for(lambda: ": finished" in handle.logs(0)[0])
        os.kill(driver_of(handle.id), signal.SIGKILL)
        done = handle.wait(timeout_s=HANGS_AFTER_S)
        assert done.job.state == "succeeded", (done.job.reason, handle.logs(0)[0])
        assert (done.job.attempt, done.job.lost) == (2, 1)
        ranked = handle.ranking()
        assert len(ranked) == TRIALS
        assert all(row["score"] is not None for row in ranked)
        more = handle.extend(1).wait(timeout_s=HANGS_AFTER_S)
        assert more.job.state == "succeeded", (more.job.reason, more.logs(0)[0])
        assert len(more.ranking()) == TRIALS + 1
        assert b"<html" in more.report()


PICTURES = {"networks": "resnet8", "image_size": 16, "batch.size": 6, "schedule.kind": "cosine", "milestones": []}
SMALL = TINY | {"epochs": 1}


def test_jobs_of_every_kind_have_their_results_in_a_store(local_ray, tmp_path):
    """The service has a cache of its own, as on a machine without the drivers' disk: it reads the store alone."""
    pictures = write_folder(tmp_path / "pictures")
    with serving() as store:
        service = ServiceProcess(
            tmp_path,
            f"sqlite:///{tmp_path / 'jobs.db'}",
            local_ray,
            options=[f"--data={pictures}"],
            driver=DRIVER,
            results=store.uri("service"),
        )
        with service, Client(f"http://127.0.0.1:{service.port}", key=service.key) as client:
            service.start()
            service.wait_until_ready()
            train = client.submit("moco", kind="train", overrides=PICTURES | {"epochs": 1, "queue.keys": 12})
            sweep = client.submit("digits", overrides=SMALL, trials=1)
            table = client.submit("digits", kind="table", overrides={"rows": ["resnet8_baseline"]}, epochs=1, repeats=1)
            assert succeeded(train)
            classes = PICTURES | {"epochs": 2, "lr": 0.5}
            del classes["networks"]
            linear = client.submit("lincls", kind="linear", source=train.id, overrides=classes)
            export = client.submit(kind="export", source=train.id, peer="0")
            assert succeeded(linear)
            evaluate = client.submit(kind="evaluate", source=linear.id)
            for handle in (sweep, table, export, evaluate):
                assert succeeded(handle)

            assert train.runs()["recipe"].to_pylist() == ["moco"]
            assert linear.runs()["recipe"].to_pylist() == ["lincls"]
            assert json.loads(linear.runs()["spec"][0].as_py())["pretraining"]["recipe"] == "moco"
            (ranked,) = sweep.ranking()
            assert ranked["score"] is not None
            (row,) = table.runs().to_pylist()
            assert (row["state"], row["epochs_done"]) == ("finished", 1)
            for handle in (train, linear, sweep, table):
                assert b"<html" in handle.report()
            assert {"export/model.safetensors", "export/README.md"} <= {file.path for file in export.artifacts()}
            scores = json.loads(evaluate.download("evaluation.json"))["scores"]
            top1 = {row["member"]: row["value"] for row in scores if row["metric"] == "top1"}
            trained = linear.metrics(split="test", metric="top1").to_pylist()
            assert top1 == pytest.approx({row["member"]: row["value"] for row in trained if row["epoch"] == 2})
            for handle in (train, linear, sweep, table, export, evaluate):
                assert damaged(handle) == []
            objects = store.objects("service/jobs")
            assert {objects[f"{handle.id}/a1.claim"].split()[0] for handle in (train, sweep, evaluate)} == {b"driver"}
            assert not service.root.exists()


def succeeded(handle):
    done = handle.wait(timeout_s=HANGS_AFTER_S)
    assert done.job.state == "succeeded", (done.job.kind, done.job.reason, handle.logs(0)[0][-3000:])
    return True


def damaged(handle):
    """The files of a job that do not come back with the checksum that its manifest has."""
    found = []
    for file in handle.artifacts():
        try:
            content = handle.download(file.path)
        except RefusedError as error:
            content = str(error).encode()
        if hashlib.sha256(content).hexdigest() != file.sha256:
            found.append((file.path, content[:80]))
    return found
