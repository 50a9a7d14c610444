"""Results that the code of commit c5bbcbf wrote: read, ranked, reported, resumed and exported with the same numbers."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from safetensors.numpy import load_file

from mcl_ray.analysis.ranking import ranking
from mcl_ray.config.recipes import RECIPES
from mcl_ray.results.store import read_epochs, read_runs, read_spec, read_sweeps
from mcl_ray.training.checkpoint import CheckpointFolder
from searches.spec.search_registry import SEARCHES
from searches.spec.suite_registry import SUITES
from tests.support.comparison import assert_equal_to_the_bit
from tests.support.old_code import FIXTURES, TIMEOUT_S, environment, python
from tests.support.once import once
from tests.support.running_command import ALONE

RUN, SWEEP = "digits-fe38fc1aca-1", "digits-b27ebce308-1"
TRIALS = [f"{SWEEP}-{number:04}-r0" for number in range(3)]
NOT_COMPARED = ("epoch_time_s", "images_per_s", "agreement", "knn_agreement")
"""Metrics of the wall clock, and those that old code did not record."""
OTHER_PROCESSOR = 1e-4
"""Relative tolerance of a loss where another processor of the same maker computes it."""
TRAIN = ("-m", "mcl_ray.train", "digits", "epochs=2", "seed=3", "--threads", "1", "--device", "cpu")
AS_AT_C5BBCBF = """
import runpy
from mcl_ray.data import source

source._is_measured = lambda spec, dataset: False
runpy.run_module("mcl_ray.train", run_name="__main__", alter_sys=True)
"""
"""A script for today's code: a training with the mean and deviation of all images, those for validation among them."""
ON_CPUS = ("--device", "cpu")
PLANNED = 8
"""Trials of a sweep that is far from its end when the first one has ended."""
STOP_AFTER_EPOCH_1 = """
import os, signal
from pathlib import Path
from mcl_ray import recipes
from mcl_ray.data.source import dataset_for
from mcl_ray.environment import Environment
from mcl_ray.overrides import replace
from mcl_ray.results.store import RunWriter
from mcl_ray.training.run import run_epochs

spec = replace(recipes.digits(), {"schedule.epochs": 2, "seed": 3})
environment = Environment(results=Path("results").absolute(), device="cpu", threads=1)
writer = RunWriter.create(environment.results, spec)
for _ in run_epochs(spec, dataset_for(spec, environment), environment, writer):
    os.kill(os.getpid(), signal.SIGKILL)
"""
"""A script for the old code: a run that is killed after the first of two epochs."""

Figures = dict[tuple[str, int, str, str, str], float]


@pytest.fixture
def results(tmp_path) -> Path:
    """A copy of the results that are in the repository."""
    return Path(shutil.copytree(FIXTURES / "results", tmp_path / "results"))


def figures(path: Path, *, metrics: tuple[str, ...] | None = None) -> Figures:
    """Every figure below `path` that old code recorded too, but those of the wall clock; of an epoch trained twice, the
    later attempt's."""
    rows = sorted(read_epochs(path).to_pylist(), key=lambda row: row["attempt"])
    names = ("run_id", "epoch", "member", "split", "metric")
    return {tuple(row[name] for name in names): row["value"] for row in rows if row["metric"] not in NOT_COMPARED}


def losses(path: Path) -> Figures:
    """The means of the loss and of its terms over each epoch."""
    found = {key: value for key, value in figures(path).items() if key[2:4] == ("cohort", "train")}
    assert {key[-1] for key in found} >= {"loss", "cross_entropy", "vcl", "icl"}
    return found


def without_run_id(found: Figures) -> dict[tuple[Any, ...], float]:
    return {key[1:]: value for key, value in found.items()}


def assert_same_run(ours: Path, theirs: Path) -> None:
    """Compare all figures of two runs, and the state at their ends, to the bit."""
    assert figures(ours) == figures(theirs)
    (first, _), (second, _) = (CheckpointFolder(run / "checkpoints").latest() for run in (ours, theirs))
    assert first.epoch == second.epoch == 2
    assert len(first.cohort) > 20
    assert_equal_to_the_bit(first.cohort, second.cohort)
    assert_equal_to_the_bit(first.optimizer, second.optimizer)


def short_hash(model: BaseModel) -> str:
    return hashlib.sha256(model.model_dump_json().encode()).hexdigest()[:16]


CHANGED_DIGESTS = {"imagenet_baseline": "520753a603", "digits_baseline": "519fd1354a"}
"""Recipe → digest, where it is another now: without contrast, the tau of the first and the embeddings of the second
have no effect, so that they are left out."""


def test_every_digest_is_what_it_was():
    """A digest names runs and sweeps: a changed one hides every result that was written with it."""
    recorded = json.loads((FIXTURES / "digests.json").read_text())
    known = recorded["recipes"]
    assert {name: RECIPES[name]().digest for name in known} == known | CHANGED_DIGESTS
    assert {name: RECIPES[name]().digests[-1] for name in known} == known, "by which they are found"
    assert {name: short_hash(RECIPES[name]()) for name in recorded["recipe_json"]} == recorded["recipe_json"]
    assert RECIPES.keys() - known.keys() == {"cifar10"}, "recipes that are newer"
    assert SEARCHES.keys() == recorded["searches"].keys()
    # Searches have another JSON than at c5bbcbf: they have a baseline, and digits starts at two peers.
    assert {name: [None, short_hash(make())] for name, make in SUITES.items()} == recorded["suites"]


def test_the_specs_of_old_runs_are_read_with_their_digests():
    for row in read_runs(FIXTURES / "results").to_pylist():
        folder = next((FIXTURES / "results").glob(f"**/runs/{row['run_id']}"))
        assert row["digest"] in read_spec(folder).digests


def test_an_old_run_is_read(results):
    (run,) = read_runs(results / "runs" / RUN).to_pylist()
    assert (run["run_id"], run["state"], run["epochs_done"], run["seed"]) == (RUN, "finished", 2, 3)
    assert (run["parameters"], run["multiply_adds"], run["code_version"]) == (161780, 1533184, "0.1.0+c5bbcbf")
    found = figures(results / "runs" / RUN)
    assert found[RUN, 1, "cohort", "train", "cross_entropy"] == 3.180040042740958
    assert found[RUN, 1, "cohort", "train", "vcl"] == 7.3347979954310825


def test_an_old_sweep_is_read_and_ranked(results):
    folder = results / "sweeps" / SWEEP
    (sweep,) = read_sweeps(folder).to_pylist()
    assert (sweep["state"], sweep["trials_planned"], sweep["best_run_id"]) == ("finished", 3, f"{SWEEP}-0001-r0")
    ranked = ranking(read_runs(folder), read_epochs(folder), sweep["objective"], sweep["mode"])
    assert [asdict(row) | {"run_ids": list(row.run_ids)} for row in ranked] == json.loads(
        (FIXTURES / "ranking.json").read_text()
    )


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "folder"), [("run", f"runs/{RUN}"), ("sweep", f"sweeps/{SWEEP}")])
def test_an_old_record_is_reported_in_the_same_words(kind, folder, results):
    """That of a sweep has a line more, the comparison with the published point."""
    printed = python(results.parent, "-m", "mcl_ray.report", f"results/{folder}")
    tables = "".join(line for line in printed.splitlines(keepends=True) if not line.startswith("wrote "))
    assert tables == (FIXTURES / f"report-{kind}.txt").read_text()
    assert (results / folder / "report" / "report.html").is_file()


@pytest.fixture
def new_run(tmp_path_factory) -> Path:
    """The folder of the same run of two epochs, trained by today's code."""
    folder, _ = once(tmp_path_factory, "new-run", lambda cwd: python(cwd, *TRAIN))
    return folder / "results" / "runs" / RUN


def assert_as_recorded(ours: Path, recorded: Path) -> None:
    """Compare the losses of a run with those that the old code had on a processor of Intel's or of AMD's.

    Their roundings differ, by which losses are some percent apart after an epoch or two.
    """
    found, on_intel = (without_run_id(losses(path)) for path in (ours, recorded))
    of_metrics = json.loads((FIXTURES / "losses-amd.json").read_text())[recorded.name]
    on_amd = {key: of_metrics[key[-1]][key[0] - 1] for key in on_intel}
    likest = min((on_intel, on_amd), key=lambda one: sum(abs(found[key] / one[key] - 1) for key in one))
    assert {key: found[key] for key in likest} == pytest.approx(likest, rel=OTHER_PROCESSOR)


@pytest.mark.slow
def test_the_same_run_gives_the_recorded_figures(new_run):
    assert_as_recorded(new_run, FIXTURES / "results" / "runs" / RUN)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIALS)
def test_the_spec_file_of_an_old_trial_gives_the_recorded_figures(tmp_path, name):
    """Also of one that was stopped early, and of one that was resumed; with the statistics of that commit."""
    trial = FIXTURES / "results" / "sweeps" / SWEEP / "runs" / name
    (tmp_path / "as_then.py").write_text(AS_AT_C5BBCBF)
    python(tmp_path, "as_then.py", str(trial / "spec.yaml"), *TRAIN[-4:])
    assert_as_recorded(tmp_path / "results", trial)


@pytest.mark.slow
def test_a_sweep_of_the_recorded_points_gives_the_recorded_trials(shared_ray, tmp_path):
    """Which trial is stopped early depends on which reports first; what is trained does not.

    Today's sampler draws the cohort's size first, as other fields have no effect at one peer, so that it draws other
    points than at c5bbcbf: the recorded ones are given.
    """
    recorded = FIXTURES / "results/sweeps" / SWEEP
    points = [row["searched"] for row in read_runs(recorded).to_pylist() if row["trial_id"] != "0000"]
    fields = ("trials=3", "epochs=3", "scheduler.grace_epochs=1", "run.seed=3", f"start=[{', '.join(points)}]", *ALONE)
    python(tmp_path, "-m", "mcl_ray.sweep", "digits", *fields, *ON_CPUS, ray=shared_ray)
    (ours,) = (tmp_path / "results" / "sweeps").iterdir()
    searched = [
        {row["trial_id"]: (row["digest"], json.loads(row["searched"])) for row in read_runs(path).to_pylist()}
        for path in (recorded, ours)
    ]
    assert searched[0] == searched[1]
    for trial in (ours / "runs").iterdir():  # the test above has what today's training gives
        python(tmp_path, *TRAIN[:2], str(trial / "spec.yaml"), "--results", f"alone/{trial.name}", *TRAIN[-4:])
        found, alone = (without_run_id(losses(path)) for path in (trial, tmp_path / "alone" / trial.name))
        assert min(key[0] for key in found) == 1
        assert found == pytest.approx({key: alone[key] for key in found}, rel=OTHER_PROCESSOR)


@pytest.fixture
def old_run(old_code, tmp_path_factory) -> Path:
    """The folder of a run of two epochs that the old code trains on this machine."""
    folder, _ = once(tmp_path_factory, "old-run", lambda cwd: python(cwd, *TRAIN, code=old_code))
    return folder / "results" / "runs" / RUN


@pytest.mark.slow
def test_the_old_code_trains_the_same_run_to_the_bit(old_run, new_run):
    assert_same_run(new_run, old_run)


@pytest.mark.slow
def test_a_run_that_the_old_code_left_is_resumed_to_the_same_bits(old_code, old_run, tmp_path):
    arguments = [sys.executable, "-c", STOP_AFTER_EPOCH_1]
    killed = subprocess.run(arguments, cwd=tmp_path, env=environment(old_code), capture_output=True, timeout=TIMEOUT_S)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (left,) = read_runs(tmp_path / "results").to_pylist()
    assert (left["run_id"], left["state"], left["epochs_done"]) == (RUN, "interrupted", 1)
    python(tmp_path, *TRAIN, "--resume")
    (run,) = read_runs(tmp_path / "results").to_pylist()
    assert (run["run_id"], run["state"], run["attempt"]) == (RUN, "finished", 2)
    assert_same_run(tmp_path / "results" / "runs" / RUN, old_run)


@pytest.mark.slow
def test_a_run_of_the_old_code_is_exported_alike(old_code, old_run, tmp_path):
    for name, code in (("before", old_code), ("after", None)):
        python(tmp_path, "-m", "mcl_ray.export", str(old_run), "--out", str(tmp_path / name), code=code)
    (before,), (after,) = ((tmp_path / name).glob("*.safetensors") for name in ("before", "after"))
    ours, theirs = load_file(after), load_file(before)
    assert ours.keys() == theirs.keys()
    assert len(ours) > 20
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)
    assert {path.name for path in (tmp_path / "after").iterdir()} == {p.name for p in (tmp_path / "before").iterdir()}


@pytest.mark.slow
def test_a_run_of_the_old_code_is_evaluated_alike(old_run):
    """The scores of the newest checkpoint are those on record."""
    from mcl_ray.config.environment import Environment
    from mcl_ray.data.source import dataset_for
    from mcl_ray.training.recorded_run import score_test_split

    spec, place = read_spec(old_run), Environment(device="cpu", threads=1)
    epoch, rows = score_test_split(spec, dataset_for(spec, place), place, old_run / "checkpoints")
    found = {
        (RUN, epoch, row.member, row.split, row.metric): row.value for row in rows if row.metric not in NOT_COMPARED
    }
    assert {key[3] for key in found} == {"test"}
    assert figures(old_run).items() >= found.items()


def interrupt_sweep(cwd: Path, code: Path) -> dict[str, Any]:
    """Start a sweep of the old code, interrupt it once a trial has ended, and return its record."""
    fields = (f"trials={PLANNED}", "epochs=2", "scheduler.grace_epochs=2", "run.seed=3")
    with subprocess.Popen(
        [sys.executable, "-m", "mcl_ray.sweep", "digits", *fields, *ON_CPUS, "--no-dashboard"],
        cwd=cwd, env=environment(code), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + TIMEOUT_S
        try:
            while not any(run["state"] == "finished" for run in runs_of_sweep(cwd)):
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            assert process.wait(TIMEOUT_S) == 130
        finally:
            process.kill()
    (sweep,) = read_sweeps(cwd / "results").to_pylist()
    return sweep


def runs_of_sweep(cwd: Path) -> list[dict[str, Any]]:
    return read_runs(cwd / "results").to_pylist() if (cwd / "results" / "sweeps").is_dir() else []


@pytest.mark.slow
def test_a_sweep_of_the_old_code_is_resumed_and_extended(old_code, shared_ray, tmp_path):
    sweep = interrupt_sweep(tmp_path, old_code)
    assert sweep["state"] == "interrupted"
    folder = tmp_path / "results" / "sweeps" / sweep["sweep_id"]
    ended = [run["run_id"] for run in runs_of_sweep(tmp_path) if run["state"] == "finished"]
    before = {run_id: figures(folder / "runs" / run_id) for run_id in ended}
    assert 1 <= len(before) < PLANNED

    python(tmp_path, "-m", "mcl_ray.sweep", "--resume", sweep["sweep_id"], *ON_CPUS, ray=shared_ray)
    assert read_sweeps(folder)["state"].to_pylist() == ["finished"]
    assert read_runs(folder)["state"].to_pylist() == PLANNED * ["finished"]

    extend = ("extend", sweep["sweep_id"], "--trials", "1")
    python(tmp_path, "-m", "mcl_ray.sweep", *extend, *ON_CPUS, ray=shared_ray)
    assert read_sweeps(folder)["trials_planned"].to_pylist() == [PLANNED + 1]
    assert sorted(read_runs(folder)["trial_id"].to_pylist()) == [f"{number:04d}" for number in range(PLANNED + 1)]
    for run_id, recorded in before.items():
        after = figures(folder / "runs" / run_id)
        added = after.keys() - recorded.keys()
        assert {key: after[key] for key in recorded} == recorded
        assert {key[3] for key in added} <= {"test"}, "the conclusion measures the best trial on the test set"
