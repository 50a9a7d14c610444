"""Whole sweeps by the command: a real Ray, real trials, real signals."""

import json
import os
import re
import signal

import optuna
import pytest
from ray._private.utils import get_num_cpus

from mcl_ray.config import recipes
from mcl_ray.config.overrides import validate
from mcl_ray.results.store import EpochRow, RunWriter, SweepWriter, read_epochs, read_runs, read_sweeps
from mcl_ray.results.warm_start import read_warm_start
from searches.spec import search_registry
from searches.spec.sweep import SweepSpec
from searches.trial_history import read_trials
from searches.tune.converters import suggest, to_sampler
from tests.support.held_runs import held_in_the_middle
from tests.support.running_command import ALONE, ROOT, send

SMALL = ("epochs=3", "scheduler.kind=none", *ALONE)
ACTOR = "ray::ImplicitFunc"
"""Title of the process of a trial; while it trains, `.train` follows."""


@pytest.mark.slow
def test_from_images_to_a_ranking_a_best_spec_and_plots(start_command):
    running = start_command(
        "digits", "trials=4", "epochs=3", "grace_epochs=1", "reduction_factor=2", *ALONE, dashboard=True
    )
    running.until("Ray dashboard: http://")
    running.until("trial 1/4")
    assert read_epochs(running.folder).num_rows > 0, "readable while the sweep runs"
    code, output = running.end()
    assert code == 0, output
    runs = read_runs(running.folder).to_pylist()
    assert len(runs) == 4
    assert {run["state"] for run in runs} <= {"finished", "stopped"}
    (sweep,) = read_sweeps(running.folder).to_pylist()
    assert sweep["state"] == "finished"

    epochs = read_epochs(running.folder).to_pylist()
    assert {row["run_id"] for row in epochs if row["split"] == "test"} == {sweep["best_run_id"]}
    last = {
        run["run_id"]: max(
            (
                row
                for row in epochs
                if row["run_id"] == run["run_id"]
                and (row["split"], row["metric"], row["member"]) == ("validation", "top1", "mean")
            ),
            key=lambda row: row["epoch"],
        )["value"]
        for run in runs
    }
    finished = [run["run_id"] for run in runs if run["state"] == "finished"]
    assert last[sweep["best_run_id"]] == max(last[run_id] for run_id in finished)

    best = recipes.load(str(running.folder / "best.yaml"))
    assert best.evaluation.test == "at_end"
    (best_run,) = (run for run in runs if run["run_id"] == sweep["best_run_id"])
    searched = json.loads(best_run["searched"])
    assert best.losses.alpha == searched["losses.alpha"]
    assert best.cohort.size == searched["cohort.size"]
    for file in re.findall(r"report: +(\S+)", output):
        assert (ROOT / file).stat().st_size > (100 if file.endswith(".json") else 1000)
    assert "report.html" in output


@pytest.mark.slow
def test_a_trial_whose_process_is_killed_resumes_from_its_last_epoch(start_command, shared_ray):
    fields = ("trials=2", "scheduler.kind=none", "epochs=8", "space.cohort.size=null", *ALONE)
    running = start_command("digits", *fields, ray=shared_ray)
    running.until(".*trials at once")
    with held_in_the_middle(running, running.folder, shared_ray.pid, ACTOR) as actors:
        inside = [run["run_id"] for run in read_runs(running.folder).to_pylist() if 2 <= run["epochs_done"] < 8]
        send(actors, signal.SIGKILL)
    (victim, *_) = inside
    code, output = running.end()
    assert code == 0, output
    runs = {run["run_id"]: run for run in read_runs(running.folder).to_pylist()}
    assert {run["state"] for run in runs.values()} == {"finished"}
    (sweep,) = read_sweeps(running.folder).to_pylist()
    scored = victim == sweep["best_run_id"]  # on the test split, an attempt of its own
    assert runs[victim]["attempt"] >= 2 + scored
    reported = [
        row for row in read_epochs(running.folder).to_pylist() if row["run_id"] == victim and row["metric"] == "loss"
    ]
    assert [row["epoch"] for row in reported] == list(range(1, 9))
    assert {row["attempt"] for row in reported[:1]} == {1}, "the first epoch was not trained again"


@pytest.mark.slow
def test_a_configuration_is_its_seeds_in_training_ranking_and_best(start_command, shared_ray):
    alpha = "space={alpha: {kind: float, low: 0.0, high: 1.0}}"
    fields = ("repeats=3", "score.kind=mean_minus_std", "cohort.size=1", "grace_epochs=1", "keep_checkpoints=1", *ALONE)
    running = start_command("digits", "trials=3", "epochs=3", alpha, *fields, ray=shared_ray)
    code, output = running.end()
    assert code == 0, output
    runs = read_runs(running.folder).to_pylist()
    seeds = {}
    for run in runs:
        seeds.setdefault(run["trial_id"], []).append((run["seed"], run["state"], run["epochs_done"]))
    assert {trial: [seed for seed, *_ in sorted(of)] for trial, of in seeds.items()} == {
        f"{number:04d}": [0, 1, 2] for number in range(3)
    }
    assert all(len({(state, epochs) for _, state, epochs in of}) == 1 for of in seeds.values()), "stopped as one"
    (sweep,) = read_sweeps(running.folder).to_pylist()
    known = read_trials(running.folder, validate(SweepSpec, json.loads(sweep["spec"])))
    best = max(known, key=lambda trial: trial.score)
    assert sweep["best_run_id"] in best.run_ids
    tested = {row["run_id"] for row in read_epochs(running.folder).to_pylist() if row["split"] == "test"}
    assert tested == set(best.run_ids)
    assert {path.parent.name for path in running.folder.glob("runs/*/checkpoints")} == set(best.run_ids)
    assert re.search(r"mean \d+\.\d+ ± \d+\.\d+ %.*\(n = 3\)", output)


@pytest.mark.slow
def test_a_sweep_continues_after_a_failed_trial_which_is_retried_and_a_changed_spec_is_refused(
    start_command, shared_ray
):
    grid = ("sampler.kind=grid", "trials=null", "space={lr: {kind: choice, values: [0.05, 1.0e+30, 0.1]}}")
    running = start_command("digits", *grid, "cohort.size=1", *SMALL, ray=shared_ray)
    code, output = running.end()
    assert code == 0, output
    before = {run["run_id"]: run for run in read_runs(running.folder).to_pylist()}
    ended = {json.loads(run["searched"])["optimizer.lr"]: (run["state"], run["error_type"]) for run in before.values()}
    assert ended == {0.05: ("finished", None), 1e30: ("failed", "NonFiniteLossError"), 0.1: ("finished", None)}
    assert re.search(
        r"failed: NonFiniteLossError: every loss must be finite, but \w+ = \S+ at step \d+ of epoch 1", output
    )

    code, output = start_command("batch.size=32", "--resume", "latest").end()
    assert code == 2
    assert "run.batch.size: 40 -> 32" in output

    code, output = start_command("retry", "latest", "--failed", ray=shared_ray).end()
    assert code == 0, output
    (failed,) = (run for run in read_runs(running.folder).to_pylist() if run["state"] == "failed")
    assert failed["attempt"] > before[failed["run_id"]]["attempt"]
    assert failed["error_type"] == "NonFiniteLossError"

    code, output = start_command("extend", "latest", "--trials", "1").end()
    assert code == 2, "a grid has no more points"
    assert "grid" in output


@pytest.mark.slow
def test_ctrl_c_stops_cleanly_and_the_sweep_is_resumed_where_it_was(start_command, shared_ray):
    half = max(1, get_num_cpus() // 2)  # on a machine of many cores, all five would be at their end by then
    running = start_command("digits", "trials=5", *SMALL, "--cpus-per-worker", str(half))
    running.until("trial 2/5")
    os.kill(running.process.pid, signal.SIGINT)
    code, output = running.end()
    assert code == 130, output
    assert "Traceback" not in output
    (sweep,) = read_sweeps(running.folder).to_pylist()
    assert sweep["state"] == "interrupted"
    assert f"--resume {sweep['sweep_id']}" in output
    before = {
        run["run_id"]: run["attempt"] for run in read_runs(running.folder).to_pylist() if run["state"] == "finished"
    }
    assert len(before) >= 2

    code, output = start_command("--resume", sweep["sweep_id"], ray=shared_ray).end()
    assert code == 0, output
    runs = read_runs(running.folder).to_pylist()
    assert {run["state"] for run in runs} == {"finished"}
    assert len({run["trial_id"] for run in runs}) == len(runs) == 5
    (sweep,) = read_sweeps(running.folder).to_pylist()
    after = {run["run_id"]: run["attempt"] for run in runs if run["run_id"] != sweep["best_run_id"]}
    assert all(after[run_id] == attempt for run_id, attempt in before.items() if run_id in after)

    code, output = start_command("--resume", sweep["sweep_id"]).end()
    assert code == 0
    assert "nothing left to do" in output


@pytest.mark.slow
def test_ctrl_c_while_the_best_is_scored_and_reported_stops_too(start_command, shared_ray):
    running = start_command("digits", "trials=1", *SMALL, ray=shared_ray)
    running.until("concluding")
    os.kill(running.process.pid, signal.SIGINT)
    code, output = running.end()
    assert code == 130, output
    (sweep,) = read_sweeps(running.folder).to_pylist()
    is_finished = sweep["state"] == "finished"  # all but the report
    assert is_finished != (f"--resume {sweep['sweep_id']}" in output)

    code, output = start_command("--resume", "latest", ray=shared_ray).end()
    assert code == 0, output
    assert read_sweeps(running.folder).to_pylist()[0]["state"] == "finished"


def recorded_sweep(results, sweep):
    """Record a finished sweep whose trials were drawn at random; return its id and the first point."""
    study = optuna.create_study(sampler=to_sampler(sweep))
    points = [suggest(sweep.space, study.ask()) for _ in range(sweep.trials)]
    kept = {"objective": sweep.objective, "mode": "max", "trials_planned": sweep.trials}
    with SweepWriter.create(results, sweep.name, sweep, **kept) as writer:
        for number, point in enumerate(points):
            labels = {"searched": point, "sweep_id": writer.sweep_id, "trial_id": f"{number:04d}"}
            with RunWriter.begin(
                writer.folder, f"{writer.sweep_id}-{number:04d}-r0", sweep.trial_run(point), **labels
            ) as run:
                run.record_epoch(2, [EpochRow("mean", "validation", "top1", 50.0 + number)])
                run.finish("finished")
        writer.finish("finished")
    return writer.sweep_id, points[0]


@pytest.mark.slow
def test_a_warm_start_with_a_gaussian_process_hyperband_and_a_condition(start_command, shared_ray, tmp_path):
    space = (
        "space={alpha: {kind: float, low: 0.0, high: 1.0}, sharing: {kind: choice, values: [reference, stem]}, "
        "beta: {kind: float, low: 0.0, high: 1.0, when: {sharing: [stem]}}}"
    )
    small = ("trials=3", "epochs=2", "batch.size=240", "per_class=24", space, *ALONE)
    earlier, drawn = recorded_sweep(tmp_path, search_registry.digits().with_overrides(["sampler.kind=random", *small]))
    hyperband = ("scheduler.kind=hyperband", "grace_epochs=1", "reduction_factor=2", "brackets=2")
    gp = ("sampler.kind=gp", "startup_trials=3", f"warm_start=[{earlier}]")
    code, output = start_command("digits", *gp, *hyperband, *small, ray=shared_ray).end()
    assert code == 0, output

    _, sweep = read_sweeps(tmp_path).to_pylist()
    (taken,) = read_warm_start(tmp_path / "sweeps" / sweep["sweep_id"])
    assert (taken.sweep_id, taken.num_taken, taken.left_out) == (earlier, 3, {})
    assert f"warm start: {taken}" in output
    runs = [run for run in read_runs(tmp_path).to_pylist() if run["sweep_id"] == sweep["sweep_id"]]
    points = {run["trial_id"]: json.loads(run["searched"]) for run in runs}
    assert (sweep["state"], len(runs), len(points)) == ("finished", 3, 3)
    assert {run["state"] for run in runs} <= {"finished", "stopped"}
    assert points["0000"] == {"losses.alpha": 0.1, "cohort.sharing": "reference"}, "the run's own values come first"
    assert points["0001"] != drawn, "a sampler without trials starts as the random one"
    for point in points.values():
        stem = point["cohort.sharing"] == "stem"
        assert set(point) == {"losses.alpha", "cohort.sharing"} | ({"losses.beta"} if stem else set())
