"""What a search trains after its trials: from records whose truth is known, and by a command that is killed."""

import json
from collections import Counter

import pytest
import yaml

from mcl_ray.analysis.sweep_ranking import rank_sweep
from mcl_ray.config import recipes
from mcl_ray.config.overrides import replace
from mcl_ray.errors import StoreError
from mcl_ray.results.store import (
    EpochRow,
    RunWriter,
    SweepWriter,
    read_epochs,
    read_runs,
    read_sweeps,
    wait_for_orphans,
)
from searches.further_runs import further_runs
from searches.resumption import plan_resumption
from searches.trial_history import read_trials
from tests.support.known_trials import sweep
from tests.support.running_command import RunningCommand

OWN = {"losses.alpha": 0.1, "cohort.size": 2}


def write(folder, asked, trial, score, state="finished", repeat=0, **point):
    point = {"losses.alpha": 0.5, "cohort.size": 2} | {f"losses.{name}": value for name, value in point.items()}
    labels = {"searched": point, "sweep_id": folder.name, "trial_id": trial}
    run_id = f"{folder.name}-{trial}-r{repeat}"
    with RunWriter.begin(folder, run_id, asked.seed_runs(point)[repeat], **labels) as writer:
        writer.record_epoch(1, [EpochRow("mean", "validation", "top1", score)])
        writer.finish(state)


def left(folder, asked):
    return [run.info.name for run in further_runs(folder, asked, read_trials(folder, asked))]


@pytest.fixture
def asked():
    return replace(sweep(), {"confirm.configurations": 2, "baseline": {}})


def test_the_best_that_trained_to_the_end_and_the_runs_own_values_get_further_seeds(asked, tmp_path):
    write(tmp_path, asked, "0000", 50.0, alpha=0.1)
    for number, score in enumerate((60.0, 90.0, 70.0), start=1):
        write(tmp_path, asked, f"000{number}", score)
    write(tmp_path, asked, "0004", 99.0, "stopped")
    write(tmp_path, asked, "0005", 99.0, "failed")
    assert left(tmp_path, asked) == [f"000{trial}-r{repeat}" for trial in (0, 2, 3) for repeat in (1, 2)]
    write(tmp_path, asked, "0002", 10.0, repeat=1)
    write(tmp_path, asked, "0003", 10.0, "interrupted", repeat=1)
    write(tmp_path, asked, "0003", 10.0, "failed", repeat=2)
    assert left(tmp_path, asked) == ["0000-r1", "0000-r2", "0002-r2", "0003-r1"], "whatever the further seeds score"


def test_configurations_with_a_failed_seed_are_confirmed_after_those_without(tmp_path):
    seeds = replace(sweep(), {"repeats": 3, "confirm.configurations": 2, "confirm.seeds": 4, "baseline": {}})
    for number, score in enumerate((95.0, 90.0, 60.0, 50.0)):
        for repeat in range(3):
            write(tmp_path, seeds, f"000{number}", score, "failed" if number == repeat == 0 else "finished", repeat)
    assert left(tmp_path, seeds) == ["0001-r3", "0002-r3"]
    write(tmp_path, seeds, "0003", 50.0, "failed", 0)
    write(tmp_path, seeds, "0002", 60.0, "failed", 2)
    assert left(tmp_path, seeds) == ["0001-r3", "0000-r3"]


def test_further_seeds_that_failed_are_tried_again_on_request(asked, tmp_path):
    with SweepWriter.create(
        tmp_path, asked.name, asked, objective=asked.objective, mode="max", trials_planned=asked.trials
    ) as writer:
        folder = writer.folder
        write(folder, asked, "0000", 50.0, alpha=0.1)
        for number, score in enumerate((60.0, 90.0, 70.0), start=1):
            write(folder, asked, f"000{number}", score)
        for trial in ("0000", "0002", "0003"):
            for repeat in (1, 2):
                state = "failed" if (trial, repeat) in (("0000", 2), ("0002", 1)) else "finished"
                write(folder, asked, trial, 80.0, state, repeat)
        writer.finish("finished")
    assert plan_resumption(folder).further == 0
    plan = plan_resumption(folder, retry_failed=True)
    assert (plan.retried_text, plan.further, plan.nothing_left) == ("2 failed seeds", 2, False)
    plan.take_up_failed()
    assert left(folder, asked) == ["0000-r2", "0002-r1"]
    for name in left(folder, asked):
        trial, repeat = name.split("-r")
        write(folder, asked, trial, 81.0, repeat=int(repeat))
    with pytest.raises(StoreError, match="only failed trials and seeds can be tried again, but .* has none"):
        plan_resumption(folder, retry_failed=True)


def test_a_failed_seed_of_a_configuration_that_others_have_overtaken_since_is_tried_again(asked, tmp_path):
    """A sweep that was extended: the configuration has its other further seed, and counts with it."""
    with SweepWriter.create(
        tmp_path, asked.name, asked, objective=asked.objective, mode="max", trials_planned=asked.trials
    ) as writer:
        folder = writer.folder
        for number, score in enumerate((50.0, 60.0, 90.0, 70.0)):
            write(folder, asked, f"000{number}", score, alpha=0.1 if number == 0 else 0.5)
        for trial in ("0000", "0002", "0003"):
            for repeat in (1, 2):
                write(folder, asked, trial, 80.0, "finished", repeat)
        write(folder, asked, "0001", 80.0, "finished", 1)
        write(folder, asked, "0001", 80.0, "failed", 2)
        writer.finish("finished")
    assert left(folder, asked) == []
    before = {row.trial_id: row for row in rank_sweep(folder).rows}["0001"]
    assert (before.n, before.num_planned) == (2, 3)
    plan = plan_resumption(folder, retry_failed=True)
    assert (plan.retried_text, plan.further) == ("1 failed seeds", 1)
    plan.take_up_failed()
    assert left(folder, asked) == ["0001-r2"], "also after a driver that was killed here"
    write(folder, asked, "0001", 81.0, repeat=2)
    after = {row.trial_id: row for row in rank_sweep(folder).rows}["0001"]
    assert (after.n, after.num_planned, after.value) == (3, 3, pytest.approx((60.0 + 80.0 + 81.0) / 3))


@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_a_failed_seed_of_a_configuration_with_enough_others_is_tried_again(tmp_path, state):
    seeds = replace(sweep(), {"repeats": 3, "confirm.configurations": 0, "baseline": {}, "trials": 2})
    with SweepWriter.create(
        tmp_path, seeds.name, seeds, objective=seeds.objective, mode="max", trials_planned=2
    ) as writer:
        folder = writer.folder
        for repeat in range(3):
            write(folder, seeds, "0000", 50.0, "finished", repeat, alpha=0.1)
            write(folder, seeds, "0001", 60.0, "failed" if repeat == 1 else state, repeat)
        writer.finish("finished")
    assert [trial.state for trial in read_trials(folder, seeds)] == ["finished", state]
    assert plan_resumption(folder).nothing_left
    plan = plan_resumption(folder, retry_failed=True)
    assert (plan.retried_text, plan.left, plan.further, plan.trains) == ("1 failed seeds", 1, 0, True)
    plan.take_up_failed()
    assert [trial.state for trial in read_trials(folder, seeds)] == ["finished", "unfinished"]
    write(folder, seeds, "0001", 90.0, state, 1)
    assert read_trials(folder, seeds)[1].score == 70.0
    with pytest.raises(StoreError, match="has none"):
        plan_resumption(folder, retry_failed=True)


def test_a_failed_seed_of_the_runs_own_values_is_that_of_its_trial_alone(tmp_path):
    """The confirmation trains all seeds of these to their ends, but does not count the search's once more."""
    seeds = replace(sweep(), {"repeats": 3, "confirm.seeds": 4, "baseline": {}, "trials": 1})
    with SweepWriter.create(
        tmp_path, seeds.name, seeds, objective=seeds.objective, mode="max", trials_planned=1
    ) as writer:
        for repeat, state in enumerate(("finished", "failed", "finished", "finished")):
            write(writer.folder, seeds, "0000", 50.0, state, repeat, alpha=0.1)
        writer.finish("finished")
    plan = plan_resumption(writer.folder, retry_failed=True)
    assert (plan.retried_text, plan.left, plan.further) == ("1 failed seeds", 1, 0)


def test_failed_seeds_of_unfinished_and_of_failed_trials_are_taken_up_with_them(tmp_path):
    seeds = replace(sweep(), {"repeats": 3, "confirm.configurations": 0, "baseline": {}, "trials": 3})
    with SweepWriter.create(
        tmp_path, seeds.name, seeds, objective=seeds.objective, mode="max", trials_planned=3
    ) as writer:
        folder = writer.folder
        for repeat, states in enumerate([("failed", "failed"), ("interrupted", "failed"), ("finished", "finished")]):
            for number, state in enumerate(states):
                write(folder, seeds, f"000{number}", 50.0, state, repeat, alpha=0.1 * (number + 1))
        writer.finish("interrupted")
    assert [trial.state for trial in read_trials(folder, seeds)] == ["unfinished", "failed"]
    plan = plan_resumption(folder, retry_failed=True)
    assert (plan.retried_text, plan.left) == ("1 failed trials and 1 failed seeds", 3)
    plan.take_up_failed()
    assert [row["state"] for row in read_runs(folder).to_pylist()].count("failed") == 0


def test_the_runs_own_values_are_trained_to_the_end_if_they_were_stopped_early(asked, tmp_path):
    write(tmp_path, asked, "0000", 50.0, "stopped", alpha=0.1)
    assert left(tmp_path, asked) == ["0000-r0", "0000-r1", "0000-r2"]


def test_a_search_without_confirmation_has_the_seeds_of_its_baseline_alone(tmp_path):
    alone = replace(sweep(), {"confirm.configurations": 0, "repeats": 2})
    write(tmp_path, alone, "0000", 50.0, alpha=0.1)
    assert left(tmp_path, alone) == ["baseline-r0", "baseline-r1"]
    assert left(tmp_path, replace(alone, {"baseline": {}})) == []
    many = replace(sweep(), {"repeats": 4, "baseline": {}})
    assert (many.num_seeds, left(tmp_path, many)) == (4, []), "the trials have as many seeds already"


def test_the_number_of_runs_counts_what_follows_the_trials():
    asked = sweep(trials=12)
    assert asked.num_runs == 12 + 5 * 2 + 3, "four and the run's own values, to three seeds; three of the baseline"
    assert replace(asked, {"trials": 3}).num_runs == 3 + 3 * 2 + 3
    outside = replace(asked, {"space.losses.alpha": {"kind": "float", "low": 0.5, "high": 1.0}})
    assert (outside.own_point, outside.num_runs) == (None, 12 + 4 * 2 + 3 + 3), "the published point, for comparison"


def test_the_runs_own_values_are_trained_for_comparison_where_the_space_does_not_hold_them(asked, tmp_path):
    outside = replace(asked, {"space.losses.alpha": {"kind": "float", "low": 0.4, "high": 1.0}, "trials": 3})
    assert outside.compared == {"published": OWN}
    for number, score in enumerate((60.0, 90.0, 70.0)):
        write(tmp_path, outside, f"000{number}", score)
    further = [f"000{trial}-r{repeat}" for trial in (1, 2) for repeat in (1, 2)]
    assert left(tmp_path, outside) == [*further, *(f"published-r{repeat}" for repeat in range(3))]
    write(tmp_path, outside, "published", 50.0, alpha=0.1)
    assert left(tmp_path, outside) == [*further, "published-r1", "published-r2"]
    assert [trial.trial_id for trial in read_trials(tmp_path, outside)] == ["0000", "0001", "0002"], "it is no trial"
    assert replace(outside, {"confirm.configurations": 0}).compared == {}
    assert asked.compared == {}, "the space holds them: they are a trial"


def test_own_values_whose_cohort_lacks_the_member_of_the_objective_are_not_compared(asked):
    larger = {"space.cohort.size": {"kind": "int", "low": 4, "high": 6}, "objective": "validation/top1/peer3"}
    assert replace(asked, larger).compared == {}


@pytest.mark.slow
def test_a_confirmation_that_is_killed_goes_on_and_is_concluded_with_its_seeds(shared_ray, tmp_path):
    small = ("trials=3", "epochs=1", "batch.size=240", "per_class=24", "scheduler.kind=none")
    kept = ("confirm.configurations=1", "keep_checkpoints=1")
    running = RunningCommand(tmp_path, "digits", *small, *kept, ray=shared_ray)
    try:
        running.until("confirming: 7 further runs")
        running.until("seed ")
    finally:
        running.close()
    wait_for_orphans(running.folder)
    before = {
        run["run_id"]: run["attempt"] for run in read_runs(running.folder).to_pylist() if run["state"] == "finished"
    }
    assert len(before) >= 4, "three trials and a further seed"

    resumed = RunningCommand(tmp_path, "--resume", "latest", ray=shared_ray)
    try:
        code, output = resumed.end()
    finally:
        resumed.close()
    assert code == 0, output
    runs = {run["run_id"]: run for run in read_runs(running.folder).to_pylist()}
    assert {run["state"] for run in runs.values()} == {"finished"}
    seeds = Counter(run["trial_id"] for run in runs.values())
    assert sorted(seeds.values()) == [1, 3, 3, 3]
    assert seeds["baseline"] == seeds["0000"] == 3, "the published point is the first trial"
    (record,) = read_sweeps(running.folder).to_pylist()
    tested = {row["run_id"] for row in read_epochs(running.folder).to_pylist() if row["split"] == "test"}
    best = runs[record["best_run_id"]]["trial_id"]
    assert tested == {run_id for run_id, run in runs.items() if run["trial_id"] == best}
    assert all(runs[run_id]["attempt"] == attempt for run_id, attempt in before.items() if run_id not in tested)
    assert {path.parent.name for path in running.folder.glob("runs/*/checkpoints")} == tested

    assert "the published point" in output
    content = (running.folder / "best.yaml").read_text()
    (line,) = [line for line in content.splitlines() if line.startswith("#") and "the published point" in line]
    assert line.removeprefix("# ") in output
    assert yaml.safe_load(content)["losses"]["alpha"] == recipes.load(str(running.folder / "best.yaml")).losses.alpha
    page = (running.folder / "report" / "report.html").read_text()
    assert page.index("the published point") < page.index("Ranking")
    assert json.loads(record["spec"])["confirm"] == {"configurations": 1, "seeds": 3}
