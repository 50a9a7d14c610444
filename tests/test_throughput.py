"""The benchmark of whole sweeps: what a tree of processes uses, which trials count, and the ratios."""

import functools
import json
import multiprocessing
import os
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import bare_tune, throughput
from benchmarks.process_tree import Usage, measure
from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import replace
from mcl_ray.data.source import load_dataset
from mcl_ray.results.store import RunWriter
from mcl_ray.training.loop import iter_epochs
from searches.spec import search_registry

MIB = 2**20
HELD_MIB, BUSY_S = 150, 1.0
FAMILY = """
import os, sys, time
held_mib, busy_s, life_s = map(float, sys.argv[1:])
shared = b"x" * int(held_mib * 2**20)
ended, end = os.pipe()
if os.fork() == 0:  # a child that ends at once
    if os.fork() == 0:  # a grandchild, whose parent has ended before it is seen
        os.close(ended)
        os.setsid()
        own = b"x" * int(held_mib * 2**20)
        while time.process_time() < busy_s:
            pass
        time.sleep(3)  # so that it is seen
        os.write(end, b"x")
        time.sleep(life_s)
    os._exit(0)
os.wait()
os.read(ended, 1)
"""
"""A program of which two processes share an array, and the second one has another; it ends when the second says so."""


def measured(script, *arguments, **options):
    """Return what a program uses, by a process that has no other children."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    call = functools.partial(measure, command, Path.cwd(), dict(os.environ), interval_s=0.02, **options)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(call)


@pytest.mark.slow
def test_processes_whose_parent_has_ended_are_measured_and_shared_memory_counts_once():
    usage = measured(FAMILY, HELD_MIB, BUSY_S, 0)
    assert 2 * HELD_MIB * MIB < usage.peak_bytes < 2.5 * HELD_MIB * MIB
    assert usage.processes >= 2
    assert usage.cpu_s >= BUSY_S
    assert usage.wall_s > BUSY_S + 3


@pytest.mark.slow
def test_processes_that_outlive_the_command_by_far_are_killed():
    usage = measured(FAMILY, 1, 0, 1e6, grace_s=0.5)
    assert usage.processes >= 2


@pytest.mark.slow
def test_a_command_that_fails_is_an_error_with_the_end_of_its_output():
    with pytest.raises(RuntimeError, match="must end with 0, but ended with 3:\nthis is why"):
        measured("import os; print('this is why', flush=True); os._exit(3)")


def record(folder, *epochs):
    for seed, last in enumerate(epochs):
        writer = RunWriter.create(folder, recipes.digits().model_copy(update={"seed": seed}))
        for epoch in range(1, last + 1):
            writer.record_epoch(epoch, [])
        writer.finish("finished" if last else "interrupted")


def test_a_way_must_train_every_trial_to_its_last_epoch(tmp_path):
    record(tmp_path, 12, 12)
    assert throughput.trained_epochs(tmp_path) == [12, 12]
    throughput.check_epochs([12, 12], 2)
    record(tmp_path, 0, 11)
    assert sorted(throughput.trained_epochs(tmp_path)) == [11, 12, 12]
    for epochs in ([12, 12], [12, 12, 11], [12] * 4):
        with pytest.raises(RuntimeError, match="3 trials must finish with 12 epochs, but their epochs are "):
            throughput.check_epochs(epochs, 3)


@pytest.mark.slow
def test_bare_tune_trains_what_the_sweep_trains(tmp_path, monkeypatch):
    run = replace(search_registry.digits().run, {"schedule.epochs": 2})
    point = {"losses.alpha": 0.7, "losses.beta": 0.2, "losses.gamma": 1.5, "losses.lam": 0.4}
    dataset = load_dataset(run.data, Environment(results=tmp_path))
    reported = []
    monkeypatch.setattr(bare_tune.tune, "report", reported.append)
    threads = torch.get_num_threads()
    bare_tune.train(point, run, dataset)
    torch.set_num_threads(threads)
    trained = iter_epochs(replace(run, point), dataset, Environment(device="cpu"), tmp_path)
    figures = [{row.metric: row.value for row in epoch.rows if row.member in ("cohort", "mean")} for epoch in trained]
    assert [one["epoch"] for one in reported] == [1, 2]
    assert [one["loss"] for one in reported] == pytest.approx([one["loss"] for one in figures], rel=5e-3)
    assert [one["top1"] for one in reported] == pytest.approx([one["top1"] for one in figures], abs=2)


def test_ratios_are_those_of_this_checkout_to_the_others():
    def used(wall_s, mib):
        return [Usage(wall_s=wall_s, cpu_s=2 * wall_s, peak_bytes=mib * MIB, processes=7)]

    figures = throughput.compare(
        {"auto": used(90, 1000), "off": used(180, 1500), "c5bbcbf": used(360, 2000), "bare": used(270, 3000)}, 100
    )
    assert figures["trials_per_hour"] == {"auto": 4000, "off": 2000, "c5bbcbf": 1000, "bare": 1333.3}
    medians = {
        name: {pair: ratio["median"] for pair, ratio in figures[name].items()}
        for name in ("trials_per_hour_ratio", "peak_memory_ratio")
    }
    pairs = ("auto to off", "auto to c5bbcbf", "auto to bare", "off to c5bbcbf", "off to bare")
    assert medians == {
        "trials_per_hour_ratio": dict(zip(pairs, (2, 4, 3, 2, 1.5), strict=True)),
        "peak_memory_ratio": dict(zip(pairs, (0.667, 0.5, 0.333, 0.75, 0.5), strict=True)),
    }
    assert json.loads(json.dumps(figures)) == figures
