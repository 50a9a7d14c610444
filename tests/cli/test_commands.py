"""The commands as processes: their output, their imports, and the files that they write."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from mcl_ray import __version__
from mcl_ray.cli.main import COMMANDS
from mcl_ray.config import recipes
from mcl_ray.config.overrides import field_paths, replace
from mcl_ray.config.recipes import RECIPES
from mcl_ray.config.spec import RunSpec
from mcl_ray.results.store import read_epochs, read_runs
from searches.spec import search_registry, suite_registry
from searches.spec.search_registry import SEARCHES
from searches.spec.suite_registry import SUITES
from tests.support.commands import (
    HANGS_AFTER_S,
    SLOW_IMPORTS,
    CommandResult,
    command,
    run_command,
    run_forked,
    snapshot,
    surroundings,
)
from tests.support.data import archive_in
from tests.support.forked import TRAINING
from tests.support.once import once

ONE_EPOCH = ("digits", "epochs=1", "cohort.size=1", "--threads", "1")


@pytest.mark.parametrize(
    "words",
    [
        *("train --help", "sweep --help", "report --help", "table --help", "export --help", "train --version"),
        *("mcl", "mcl --help", "mcl --version"),
        *(f"mcl {verb} --help" for verb in COMMANDS),
    ],
)
def test_help_loads_nothing_slow(words, tmp_path):
    seen = run_command(tmp_path, *words.split())
    assert (seen.code, seen.stderr) == (0, "")
    assert seen.modules.isdisjoint(SLOW_IMPORTS | {"numpy"})
    assert snapshot(tmp_path) == {}
    if words.endswith("--version"):
        assert seen.stdout == f"{__version__}\n"
    else:
        assert seen.stdout.startswith("Usage: ")
        assert seen.stdout.splitlines()[2].strip().endswith(".")  # the description


def test_the_package_runs_as_mcl(tmp_path):
    words = [sys.executable, "-m", "mcl_ray", "recipes"]
    done = subprocess.run(words, cwd=tmp_path, env=surroundings(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == run_command(tmp_path, "mcl", "recipes").stdout


@pytest.mark.parametrize(("verb", "known"), [("recipes", RECIPES), ("searches", SEARCHES), ("suites", SUITES)])
def test_recipes_searches_and_suites_are_listed_with_their_descriptions(verb, known, tmp_path):
    seen = run_command(tmp_path, "mcl", verb)
    assert (seen.code, seen.stderr) == (0, "")
    assert [" ".join(line.split()) for line in seen.stdout.splitlines()[1:]] == [
        f"{name} {function.__doc__}" for name, function in known.items()
    ]
    assert seen.modules.isdisjoint(SLOW_IMPORTS)


def test_every_field_is_listed_without_loading_anything_slow(tmp_path):
    seen = run_command(tmp_path, "mcl", "fields")
    assert (seen.code, seen.stderr) == (0, "")
    listed = {line.split()[0] for line in seen.stdout.splitlines() if line.strip()}
    assert {path for path, _ in field_paths(RunSpec)} <= listed
    assert {"space", "trials", "scheduler.grace_epochs", "rows"} <= listed
    assert seen.modules.isdisjoint(SLOW_IMPORTS)


def resolved(tmp_path: Path, name: str, *overrides: str) -> Path:
    """Write what a dry run prints into a file; a dry run of this file prints the same."""
    first = run_forked(tmp_path, *name.split(), "digits", *overrides, "--dry-run")
    assert (first.code, first.stderr) == (0, "")
    assert first.modules.isdisjoint({"ray", "optuna"})
    assert snapshot(tmp_path) == {}
    for fact in ("runs", "steps", "multiply-adds", "memory", "disk", "wall time"):
        assert f"\n# {fact} " in first.stdout
    assert "parameters" in first.stdout
    file = tmp_path / "resolved.yaml"
    file.write_text(first.stdout)
    again = run_forked(tmp_path, *name.split(), file.name, "--dry-run", modules=TRAINING)
    assert untimed(again.stdout) == untimed(first.stdout)
    assert set(snapshot(tmp_path)) == {file.name}
    return file


def untimed(text: str) -> str:
    """What a dry run prints, without the wall time, which is measured."""
    found, count = re.subn(r"^# wall time .*\n", "", text, flags=re.MULTILINE)
    assert count == 1
    return found


@pytest.mark.slow
def test_a_dry_run_prints_the_spec_file_that_would_do_the_same_and_writes_nothing(tmp_path):
    file = resolved(tmp_path, "train", "networks=[resnet8,wrn_16_2]", "epochs=3", "sampler=reference")
    values = {"cohort.networks": ("resnet8", "wrn_16_2"), "schedule.epochs": 3, "batch.sampler": "reference"}
    assert recipes.load(str(file)).digest == replace(recipes.digits(), values).digest
    assert "105 (35 an epoch)" in file.read_text()


@pytest.mark.slow
def test_a_dry_run_of_a_search_prints_its_file_and_starts_no_ray(tmp_path):
    file = resolved(tmp_path, "sweep", "trials=3", "lr=1e-3", "space.gamma=null")
    sweep = search_registry.load(str(file))
    assert (sweep.trials, sweep.run.optimizer.lr, "losses.gamma" in sweep.space) == (3, 1e-3, False)
    steps, per_epoch = re.search(r"^# steps +([\d,]+) \((\d+) an epoch\)", file.read_text(), re.MULTILINE).groups()
    assert int(steps.replace(",", "")) == sweep.run.schedule.epochs * int(per_epoch)


@pytest.mark.slow
def test_a_dry_run_of_a_suite_prints_its_file_and_starts_no_ray(tmp_path):
    file = resolved(tmp_path, "sweep table", "epochs=3", "rows=[resnet8_x2]")
    suite = suite_registry.load(str(file))
    assert (list(suite.rows), suite.run.schedule.epochs) == (["resnet8_x2"], 3)


def test_a_closed_pipe_gives_no_traceback(tmp_path):
    with subprocess.Popen(
        command("mcl", "recipes"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=surroundings()
    ) as process:
        process.stdout.close()
        assert process.wait(HANGS_AFTER_S) == 1
        assert process.stderr.read() == b""


@pytest.fixture
def finished(tmp_path_factory, tmp_path):
    """Return a folder in which one run of one epoch was trained, and the result of the command."""

    def train(folder):
        seen = run_command(folder, "train", *ONE_EPOCH)
        return asdict(seen) | {"modules": sorted(seen.modules)}

    folder, fields = once(tmp_path_factory, "finished", train)
    seen = CommandResult(**fields | {"modules": set(fields["modules"])})
    assert (seen.code, seen.stderr) == (0, "")
    return Path(shutil.copytree(folder, tmp_path / "finished")), seen


def test_a_run_prints_one_line_per_epoch_without_a_terminal(finished):
    folder, seen = finished
    (run,) = read_runs(folder / "results").to_pylist()
    assert (run["state"], run["epochs_done"], run["attempt"]) == ("finished", 1, 1)
    assert seen.stdout.startswith(f"run {run['run_id']}, attempt 1, in results/runs/{run['run_id']}\nepoch 1/1  loss ")
    assert f"plots: python -m mcl_ray.report results/runs/{run['run_id']}\n" in seen.stdout
    assert "\x1b" not in seen.stdout
    assert "ray" not in seen.modules


@pytest.mark.slow
def test_a_second_run_gets_its_own_folder_and_a_finished_one_has_nothing_left(finished):
    folder, _ = finished
    before = snapshot(folder)
    (first,) = read_runs(folder / "results").to_pylist()
    resumed = run_forked(folder, "train", *ONE_EPOCH, "--resume", modules=TRAINING)
    assert (resumed.code, resumed.stderr) == (0, "")
    assert resumed.stdout == f"nothing left to do: results/runs/{first['run_id']} is finished\n"
    assert snapshot(folder) == before

    assert run_forked(folder, "train", *ONE_EPOCH, modules=TRAINING).code == 0
    after = snapshot(folder)
    assert {path: after.get(path) for path in before} == before
    runs = read_runs(folder / "results").to_pylist()
    assert [run["run_id"][-2:] for run in runs] == ["-1", "-2"]
    assert runs[0]["digest"] == runs[1]["digest"]


def test_a_report_of_a_run_prints_its_figures_and_writes_beside_it(finished):
    folder, _ = finished
    run_id = read_runs(folder / "results")["run_id"][0].as_py()
    seen = run_command(folder, "report", f"results/runs/{run_id}")
    assert (seen.code, seen.stderr) == (0, "")
    assert f"{run_id}: finished, 1 of 1 epochs" in seen.stdout
    assert f"wrote results/runs/{run_id}/report/report.html\n" in seen.stdout
    assert (folder / "results" / "runs" / run_id / "report" / "report.html").exists()
    assert seen.modules.isdisjoint({"ray", "torch"})


def test_a_table_does_not_compare_a_run_in_another_setting(finished):
    folder, _ = finished
    seen = run_forked(folder, "table", "cifar", "results", "results/runs")
    assert seen.code == 2, "a folder of runs is no results folder"
    seen = run_command(folder, "table", "cifar", "results")
    assert (seen.code, seen.stderr) == (0, "")
    assert "70.91 ± 0.14" in seen.stdout
    assert "difference" not in seen.stdout
    assert "runs left out: 1 of a cohort or losses without a column" in seen.stdout
    assert seen.modules.isdisjoint({"ray", "torch", "optuna"})


@pytest.mark.slow
def test_an_archive_of_ones_own_trains(tmp_path):
    archive_in(tmp_path)
    small = ("networks=resnet8", "batch.size=6", "epochs=1", "--threads", "1")
    seen = run_forked(tmp_path, "train", "cifar", "--data", "images.tar.gz", "checksum=off", *small, modules=TRAINING)
    assert (seen.code, seen.stderr) == (0, "")
    figures = read_epochs(tmp_path / "results").to_pylist()
    assert {row["split"] for row in figures} == {"train", "test"}


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_the_run_and_is_recorded(tmp_path):
    seen = run_forked(tmp_path, "train", "digits", "lr=1e30", "epochs=2", "--threads", "1", modules=TRAINING)
    assert seen.code == 1
    message = r"every loss must be finite, but cross_entropy = nan at step 2 of epoch 1"
    assert seen.stderr == f"error: {message}\n"
    (run,) = read_runs(tmp_path / "results").to_pylist()
    assert (run["state"], run["error_type"], run["error"]) == ("failed", "NonFiniteLossError", message)
    assert run["epochs_done"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(("own", "sleep"), [({}, True), ({"OMP_WAIT_POLICY": "ACTIVE"}, False)])
def test_threads_of_openmp_sleep_while_they_wait_unless_the_user_has_chosen(tmp_path, own, sleep):
    """GNU's OpenMP prints its settings as torch loads it: what is set later has no effect."""
    inherited = {name: value for name, value in surroundings().items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        command("train", "digits", "--dry-run"),
        cwd=tmp_path,
        env=inherited | {"OMP_DISPLAY_ENV": "VERBOSE"} | own,
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER_S,
        check=True,
    )
    spins = re.findall(r"GOMP_SPINCOUNT\s*=\s*'(\w+)'", done.stderr)
    assert spins, "torch loads GNU's OpenMP"
    assert (set(spins) == {"0"}) == sleep
