"""A sweep whose driver is killed with SIGKILL and resumed: nothing is lost or counted twice.

A sample: the campaign in benchmarks/campaign has many kills.
"""

import json
import random
import time

import optuna
import pytest

from mcl_ray.config.overrides import validate
from mcl_ray.results.reader import sweep_folders
from mcl_ray.results.store import find_sweep, read_epochs, read_runs, read_sweeps, wait_for_orphans
from searches.spec.sweep import SweepSpec
from searches.trial_history import read_trials
from tests.support.running_command import ALONE, RunningCommand

DRIVER_HANGS_AFTER_S = 900.0
STARTS_WITHIN_S = 10.0
"""About what it takes from the start of a driver to its first figure."""
LATEST_EPOCHS = 2
"""How many epochs may pass after that figure until the driver dies."""
FIELDS = ("scheduler.kind=none", "space.cohort.size=null", "cohort.size=1", *ALONE)


def started(results):
    """Return the sweep's folder, once it has a record: a driver may die before, or before writing the record."""
    return sweep_folders(results) if (results / "sweeps").is_dir() else []


def start_or_resume(results, trials, epochs, options, **more):
    words = ("--resume", "latest") if started(results) else ("digits", f"trials={trials}", f"epochs={epochs}", *FIELDS)
    return RunningCommand(results, *words, *options.get("words", ()), ray=options.get("ray"), **more)


def kill_at_a_random_moment(results, trials, epochs, moments, options, *, early):
    """Start the sweep or go on with it, and kill the driver; whether it came to its end before that.

    If `early`, from its very start until trials train, else while they do: for as long as epochs take, so that no
    machine is too fast.
    """
    before = figures(results)
    began, moment = time.monotonic(), moments.uniform(0, STARTS_WITHIN_S) if early else DRIVER_HANGS_AFTER_S
    running, seen, new = start_or_resume(results, trials, epochs, options), {}, False
    try:
        while not new and running.process.poll() is None:
            if time.monotonic() - began > moment:
                assert early, f"no trial reported of an epoch within {moment:g} s"
                break
            time.sleep(0.05)
            if (files := written(results)) != seen:
                seen, new = files, bool(figures(results).keys() - before.keys())
        if new:
            time.sleep(moments.uniform(0, LATEST_EPOCHS) * epoch_time(results))
        return running.process.poll() is not None
    finally:
        running.close()
        for folder in started(results):
            wait_for_orphans(folder)


def written(results):
    """When each file of figures was written; far cheaper to ask than what it says."""
    return {file: file.stat().st_mtime_ns for file in results.glob("sweeps/*/runs/*/epochs-*.parquet")}


def epoch_time(results):
    """Seconds that an epoch takes where nothing holds it up, about."""
    return min(row["value"] for row in read_epochs(results).to_pylist() if row["metric"] == "epoch_time_s")


def figures(results):
    """Every figure of every run, without the wall clock's."""
    rows = read_epochs(results).to_pylist() if started(results) else []
    kept = [row for row in rows if row["metric"] not in ("epoch_time_s", "images_per_s") and row["split"] != "test"]
    return {(row["run_id"], row["epoch"], row["split"], row["metric"], row["member"]): row["value"] for row in kept}


def check_resumed(results, before):
    """What ended before a kill is as it was."""
    (sweep,) = read_sweeps(results).to_pylist()
    after = {row["run_id"]: row for row in read_runs(results).to_pylist()}
    for run_id, row in before.items():
        tested = run_id == sweep["best_run_id"]  # an attempt of its own
        assert after[run_id]["state"] == row["state"] == "finished"
        assert after[run_id]["attempt"] == row["attempt"] + tested, f"{run_id} was trained again"


def check_whole(results, trials, epochs):
    """Every trial once, every epoch once, and the database tells the same."""
    (sweep,) = read_sweeps(results).to_pylist()
    assert (sweep["state"], sweep["trials_planned"]) == ("finished", trials)
    folder = find_sweep(results, "latest")
    known = read_trials(folder, validate(SweepSpec, json.loads(sweep["spec"])))
    assert [trial.state for trial in known] == ["finished"] * trials
    assert len({json.dumps(trial.point) for trial in known}) == trials, "no configuration twice"
    assert all([done for done, _ in trial.curve] == list(range(1, epochs + 1)) for trial in known)
    study = optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder / 'study.db'}")
    reported = [(kept.user_attrs["trial"], kept.value) for kept in study.trials if kept.state.name == "COMPLETE"]
    assert sorted(reported) == [(trial.trial_id, trial.score) for trial in known], study.trials
    assert not [kept for kept in study.trials if kept.state.name == "RUNNING"]


def survive(results, *, trials, epochs, early, seed, **options):
    """Kill the driver once for each in `early`, and let the last one end."""
    moments = random.Random(seed)
    for number, is_early in enumerate(early, start=1):
        ended_before = kill_at_a_random_moment(results, trials, epochs, moments, options, early=is_early)
        assert not ended_before, f"the sweep is too short for {len(early)} kills: it ended before number {number}"
        rows = read_runs(results).to_pylist() if started(results) else []
        reported = figures(results)
        ended = {row["run_id"]: row for row in rows if row["state"] == "finished"}
    code, output = start_or_resume(results, trials, epochs, options, within_s=DRIVER_HANGS_AFTER_S).end()
    assert code == 0, output
    check_resumed(results, ended)
    later = figures(results)
    assert {key: later[key] for key in reported} == reported, "what was reported stays true to the bit"
    check_whole(results, trials, epochs)


@pytest.mark.slow
def test_a_sweep_survives_the_death_of_its_driver(tmp_path):
    survive(tmp_path, trials=3, epochs=3, early=[False], seed=0)


@pytest.mark.slow
def test_a_sweep_survives_several_deaths_at_random_moments(shared_ray, tmp_path):
    """On a Ray that outlives its drivers, one trial at a time; above, each driver has its own, and two at a time."""
    alone = ("--cpus-per-worker", "2")
    survive(tmp_path / "results", trials=3, epochs=6, early=[True, False], seed=1, ray=shared_ray, words=alone)
