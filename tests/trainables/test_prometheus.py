"""Gauges as Prometheus sees them: set in an actor of a real Ray, read from its node's metrics port."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import HANGS_AFTER_S
from trainables.prometheus import GAUGES

ROOT = Path(__file__).resolve().parents[2]
RUN = {"run_id": "r-1", "sweep_id": "", "trial_id": "t1", "recipe": "digits"}

# Polls the port, and prints what it shows once that is as many values of ours as it should be, or will not be any more.
SCRAPES = """
import contextlib, json, sys, time, urllib.request
import trainables
import ray
from mcl_ray.config.execution import ExecutionOptions
from trainables.cluster.connect import connect
from prometheus_client.parser import text_string_to_metric_families

@ray.remote
class Trial:
    def __init__(self):
        from types import SimpleNamespace
        from trainables.prometheus import PrometheusCallback
        self.gauges = PrometheusCallback(trial_id="t1")
        self.gauges.on_run_start(SimpleNamespace(run_id="r-1", spec=SimpleNamespace(recipe="digits")))

    def epoch(self):
        from mcl_ray.results.store import EpochRow
        from mcl_ray.callbacks import EpochEnd
        rows = [EpochRow("cohort", "train", *figure) for figure in (("loss", 9.0), ("lr", 0.1), ("images_per_s", 7.5))]
        rows += [EpochRow(peer, "validation", "top1", value) for peer, value in (("peer0", 40.0), ("peer1", 50.0))]
        self.gauges.on_epoch_end(EpochEnd(epoch=2, rows=rows))

    def step(self):
        from mcl_ray.callbacks import StepEnd
        self.gauges.on_step(StepEnd(epoch=3, step=1, steps=4, losses={"vcl": 2.0, "icl": 3.0, "loss": 8.0}))

    def fail(self):
        from pathlib import Path
        from mcl_ray.callbacks import RunEnd
        from mcl_ray.errors import NonFiniteLossError
        for state, error in (("finished", None), ("failed", NonFiniteLossError("vcl", float("nan"), 3, 1))):
            self.gauges.on_run_end(RunEnd(run_id="r-1", folder=Path("r-1"), state=state, error=error))

    def rest(self):
        pass

def ours():
    with urllib.request.urlopen(f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics") as page:
        families = text_string_to_metric_families(page.read().decode())
    return [sample for family in families for sample in family.samples if sample.name.startswith("ray_mcl_")]

with connect(ExecutionOptions(no_dashboard=True)):  # starts a Ray again that takes too long
    trial = Trial.remote()
    for act, count in (("epoch", 4), ("rest", 0), ("step", 7), ("fail", 8)):
        give_up, seen = time.monotonic() + float(sys.argv[1]), None
        while seen is None or (len(seen) != count and time.monotonic() < give_up):
            ray.get(getattr(trial, act).remote())
            with contextlib.suppress(OSError):  # the agent, whose port it is, may start later than its node
                seen = ours()
            time.sleep(0.2)
        print(json.dumps([[sample.name, sample.labels, sample.value] for sample in seen]))
"""


def values(line):
    """What one line shows, without the labels that Ray adds."""
    shown = {}
    for name, labels, value in json.loads(line):
        kind = GAUGES[name.removeprefix("ray_")]
        assert {tag: labels[tag] for tag in RUN} == RUN
        shown[name.removeprefix("ray_"), *(labels[tag] for tag in kind.tags)] = value
    return shown


@pytest.mark.slow
def test_a_run_is_seen_while_it_trains_and_no_longer():
    told_to_ray = {
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_metrics_report_interval_ms": "1000",
    }
    scraping = [sys.executable, "-c", SCRAPES, str(HANGS_AFTER_S)]
    done = subprocess.run(scraping, env=os.environ | told_to_ray, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    after_epoch, at_rest, after_step, after_failure = [values(line) for line in done.stdout.splitlines()]
    known = {
        ("mcl_accuracy", "validation", "top1", "peer0"): 40.0,
        ("mcl_accuracy", "validation", "top1", "peer1"): 50.0,
        ("mcl_images_per_s",): 7.5,
    }
    assert after_epoch == known | {("mcl_epoch",): 2.0}
    assert at_rest == {}
    losses = {("mcl_loss",): 8.0, ("mcl_term", "vcl"): 2.0, ("mcl_term", "icl"): 3.0}
    assert after_step == known | losses | {("mcl_epoch",): 2.25}
    assert after_failure == after_step | {("mcl_failed", "NonFiniteLossError"): 1.0}
