"""A cluster on this machine, as deploy/kubernetes describes it, and three faults that a job must survive.

    python deploy/local-cluster/run.py FOLDER [--hold]

Needs Linux, root, and the programs of PostgreSQL; Prometheus is part of it where it is installed. Submits a sweep whose
trials are shared by both workers; kills a worker node, then a process of the API, cuts the head off from the other
worker for 30 s, and waits until the job has succeeded. With `--hold` there is no job and no fault: the cluster stays
until Ctrl-C. Results, logs and the database are left in FOLDER. Exit codes: 0 the job succeeded, 1 it did not, 2 the
machine lacks something, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from cluster import Cluster, wait_for
from nodes import INSIDE, ClusterError, isolate

from mcl_ray.client import JobHandle, RefusedError

CUT_S = 30.0
SWEEP: dict[str, Any] = {
    "trials": 2,
    "epochs": 40,
    "scheduler.kind": "none",
    "space.cohort.size": None,
    "baseline": {},
    "confirm.configurations": 0,
}
EPOCHS = 3
"""Epochs that are trained between two faults, so that each of them hits a sweep that trains."""
ENDS = ("succeeded", "failed", "cancelled")


def say(text: str) -> None:
    """Print a line with the time."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


def has_ended(job: JobHandle) -> bool:
    """Return whether a job has ended."""
    return job.refresh().state in ENDS


def wait_for_epochs(job: JobHandle) -> None:
    """Return once `EPOCHS` more epochs are on record, or the job has ended."""

    def done() -> int:
        try:
            return sum(job.runs()["epochs_done"].to_pylist())
        except RefusedError:  # it has no run yet
            return 0

    goal = done() + EPOCHS
    wait_for("the sweep trains", lambda: has_ended(job) or done() >= goal)


def survive(cluster: Cluster) -> None:
    """Submit a sweep, break the cluster three times while it trains, and return once the job has succeeded.

    Raises:
        ClusterError: it did not succeed, or ended before the last fault.
    """
    (first, second), (killed, cut) = cluster.apis, cluster.workers
    job_id = cluster.client(first).submit("digits", overrides=SWEEP, execution={"workers": "2"}).id
    say(f"job {job_id}: submitted to {first.name}")
    job = cluster.client(second).job(job_id)
    wait_for_epochs(job)
    say(f"kill the node {killed.name}")
    killed.kill()
    wait_for(f"{killed.name} starts again", lambda: killed.starts > 1)
    wait_for_epochs(job)
    say(f"kill {first.name}")
    first.kill()
    wait_for(f"{first.name} is ready again", lambda: first.starts > 1 and cluster.is_ready(first))
    wait_for_epochs(job)
    say(f"cut {cluster.head.name} off from {cut.name} for {CUT_S:.0f} s")
    cluster.head.cut_off(cut)
    time.sleep(CUT_S)
    cluster.head.join(cut)
    if has_ended(job):
        raise ClusterError("the sweep must train while the network is cut, but it had ended; it needs more epochs")
    wait_for("the job ends", lambda: has_ended(job))
    found = cluster.client(first).job(job_id).refresh()
    say(f"job {job_id}: {found.state}, attempt {found.attempt}, {found.lost} lost {found.reason}".rstrip())
    states = job.runs()["state"].to_pylist()
    if found.state != "succeeded" or states != ["finished"] * SWEEP["trials"]:
        raise ClusterError(f"the job must succeed and its trials finish, but: {found.state}, {', '.join(states)}")
    for target, health in cluster.targets().items():
        say(f"Prometheus: {target} {health}")


def main() -> int:
    """Bring the cluster up, and break or hold it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="new or empty folder for results, logs and the database")
    parser.add_argument("--hold", action="store_true", help="no job and no fault: stay until Ctrl-C")
    options = parser.parse_args()
    folder = options.folder.absolute()
    try:
        if INSIDE not in os.environ and folder.exists() and any(folder.iterdir()):
            raise ClusterError(f"`folder` must be new or empty, but {folder} is not")
        isolate()
        folder.mkdir(parents=True, exist_ok=True)
        cluster = Cluster(folder)
        cluster.start()
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    say(f"up: {', '.join(f'{node.name} {node.address}' for node in cluster.nodes)}")
    try:
        if options.hold:
            threading.Event().wait()
        survive(cluster)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
