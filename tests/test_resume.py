"""Runs that were killed or interrupted in the middle of an epoch: resumed, they end as if nothing had happened."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import pytest

from mcl_ray.results.store import RunWriter, read_epochs
from mcl_ray.training.checkpoint import CheckpointFolder, read_checkpoint
from tests.support import forked
from tests.support.commands import HANGS_AFTER_S, command, snapshot, surroundings
from tests.support.comparison import assert_ends_alike, checkpoints_of, figures
from tests.support.once import once
from tests.support.run_progress import hold_in_the_middle, runs_of, wait_for_epochs
from tests.support.running_command import send_again_and_again

EPOCHS = 6
OVERRIDES = (f"epochs={EPOCHS}", "test=every_epoch", "validation_fraction=0.1")


def training(*more: str, overrides: tuple[str, ...] = OVERRIDES) -> list[str]:
    return command("train", "digits", *overrides, "--threads", "1", *more)


def train(
    cwd: Path, *more: str, overrides: tuple[str, ...] = OVERRIDES, is_forked: bool = True
) -> subprocess.CompletedProcess[str]:
    """Train to the end, in a forked process or an interpreter of its own."""
    run = partial(forked.run, modules=forked.TRAINING)
    if not is_forked:
        run = partial(subprocess.run, capture_output=True, text=True, check=False)
    return run(training(*more, overrides=overrides), cwd=cwd, env=surroundings(), timeout=HANGS_AFTER_S)


@contextmanager
def started_run(
    cwd: Path, *more: str, overrides: tuple[str, ...] = OVERRIDES, is_forked: bool = True
) -> Iterator[subprocess.Popen[str]]:
    """A process that trains, killed on leaving if it still does."""
    start = partial(forked.ForkedProcess, modules=forked.TRAINING) if is_forked else subprocess.Popen
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start(training(*more, overrides=overrides), cwd=cwd, env=surroundings(), text=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def epoch_times(results: Path) -> list[float]:
    """Seconds of every epoch."""
    return [row["value"] for row in read_epochs(results).to_pylist() if row["metric"] == "epoch_time_s"]


def newest(folder: CheckpointFolder) -> Path:
    return max(folder.path.glob("*.pt"))


def state_of(results: Path) -> tuple[str, int, int]:
    (run,) = runs_of(results)
    return run["state"], run["attempt"], run["epochs_done"]


@pytest.fixture
def reference(tmp_path_factory) -> Path:
    """The results of a run that nothing happened to."""

    def whole(folder):
        done = train(folder, is_forked=False)
        return [done.returncode, done.stderr]

    folder, said = once(tmp_path_factory, "reference", whole)
    assert said == [0, ""]
    assert len(figures(folder / "results")) == EPOCHS * (6 + 2 * 11 + 1)
    return folder / "results"


def kill_in_the_middle(folder: Path) -> None:
    """Kill the same run in the middle of an epoch."""
    with started_run(folder, is_forked=False) as process:
        hold_in_the_middle(process, folder / "results", epochs_done=2)
        process.kill()
        assert process.wait(HANGS_AFTER_S) == -signal.SIGKILL


@pytest.fixture
def killed(tmp_path_factory, tmp_path) -> Path:
    """A folder in which that happened, to go on with."""
    folder, _ = once(tmp_path_factory, "killed", kill_in_the_middle)
    return Path(shutil.copytree(folder, tmp_path / "killed"))


def test_a_killed_run_reads_as_interrupted_and_says_how_far_it_came(killed):
    state, attempt, epochs_done = state_of(killed / "results")
    assert (state, attempt) == ("interrupted", 1)
    assert 2 <= epochs_done < EPOCHS
    assert max(key[0] for key in figures(killed / "results")) in (epochs_done, epochs_done + 1), "written just before"


@pytest.mark.slow
def test_a_killed_run_ends_as_one_that_was_not_killed_to_the_bit(killed, reference):
    before = figures(killed / "results")
    done = train(killed, "--resume", is_forked=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert state_of(killed / "results") == ("finished", 2, EPOCHS)
    assert_ends_alike(killed / "results", reference, OVERRIDES)
    assert before.items() <= figures(killed / "results").items()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)]
)
def test_a_signal_however_often_says_how_to_go_on_and_going_on_ends_alike(tmp_path, reference, number, code):
    with started_run(tmp_path) as process:
        hold_in_the_middle(process, tmp_path / "results", epochs_done=2)
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        send_again_and_again(process, number)
        reported, errors = process.communicate(timeout=HANGS_AFTER_S)
    assert process.returncode == code, (reported, errors)
    assert reported.endswith("interrupted; the same command with --resume continues after the last finished epoch\n")
    assert errors == ""
    state, _, epochs_done = state_of(tmp_path / "results")
    assert state == "interrupted"
    assert 1 <= epochs_done < EPOCHS
    assert train(tmp_path, "--resume").returncode == 0
    assert_ends_alike(tmp_path / "results", reference, OVERRIDES)


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before_and_says_so(killed, reference):
    folder = checkpoints_of(killed / "results", OVERRIDES)
    file = newest(folder)
    file.write_bytes(file.read_bytes()[:-1])
    done = train(killed, "--resume")
    assert done.returncode == 0
    path = file.relative_to(killed)
    assert done.stderr.startswith(f"WARNING: checkpoint {path} is damaged: its checksum is ")
    assert done.stderr.endswith("; falling back to the previous checkpoint\n")
    assert done.stderr.count("\n") == 1
    assert_ends_alike(killed / "results", reference, OVERRIDES)


def refused(killed: Path, *more: str) -> str:
    """The error line of a run that cannot be resumed, whose record stays as it was."""
    before = snapshot(killed)
    done = train(killed, "--resume", *more)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert snapshot(killed) == before
    return done.stderr


@pytest.mark.slow
def test_a_run_without_an_undamaged_checkpoint_is_not_begun_anew(killed):
    folder = checkpoints_of(killed / "results", OVERRIDES)
    files = list(folder.path.glob("*.pt"))
    assert len(files) in (2, 3), "the last two, and one more where it was killed before it dropped the oldest"
    for file in files:
        file.write_bytes(b"")
    assert f"all {len(files)} in {folder.path.relative_to(killed)} are damaged" in refused(killed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (
            {"architecture": "wrn_16_2 on the moon"},
            "is of another architecture: it holds wrn_16_2 on the moon, but the ",
        ),
        ({"digest": "0123456789"}, "belongs to spec 0123456789, but this run has "),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(change, rule, killed):
    folder = checkpoints_of(killed / "results", OVERRIDES)
    file = newest(folder)
    checkpoint = replace(read_checkpoint(file), **change)
    file.unlink()
    folder.save(checkpoint)
    assert rule in refused(killed)


@pytest.mark.slow
def test_a_run_that_somebody_writes_is_left_alone(killed):
    folder = checkpoints_of(killed / "results", OVERRIDES).path.parent
    with RunWriter.resume(folder):
        assert "another process writes results/runs/" in refused(killed)


@pytest.mark.slow
def test_several_kills_at_any_moment_change_nothing(tmp_path):
    """Every second time while it starts, else within the next two epochs or so, however fast the machine is."""
    whole, killed, overrides = tmp_path / "whole", tmp_path / "killed", ("epochs=16", *OVERRIDES[1:])
    whole.mkdir()
    killed.mkdir()
    assert train(whole, overrides=overrides).returncode == 0
    moments, times = random.Random(0), epoch_times(whole / "results")
    with started_run(killed, overrides=overrides, is_forked=False):
        wait_for_epochs(killed / "results", 0)
    for number in range(4):
        done = state_of(killed / "results")[2]
        with started_run(killed, "--resume", overrides=overrides, is_forked=False) as process:
            if number % 2:
                wait_for_epochs(killed / "results", done + 1)
                time.sleep(moments.uniform(0, 2 * median(times)))
            else:
                wait_for_epochs(killed / "results", done + 1, at_most_s=moments.uniform(0, 4))
            assert process.poll() is None, f"the run was over before kill {number}"
    assert train(killed, "--resume", overrides=overrides).returncode == 0
    state, attempt, epochs_done = state_of(killed / "results")
    assert (state, epochs_done) == ("finished", 16)
    assert attempt > 2, "as often as it was killed while it trained, at least"
    assert_ends_alike(killed / "results", whole / "results", overrides)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ("epochs=5", "cohort.size=3", "precision=bf16", "logit_distillation=all", "sampler=reference", "flip=true"),
        ("epochs=5", "networks=[resnet8,shufflenetv2_05x]", "kind=multistep", "milestones=[2]", "channels_last=false"),
    ],
)
def test_other_cohorts_resume_to_the_bit_too(overrides, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    assert train(whole, overrides=overrides).returncode == 0
    with started_run(killed, overrides=overrides) as process:
        hold_in_the_middle(process, killed / "results", epochs_done=1)
    assert state_of(killed / "results")[0] == "interrupted"
    assert train(killed, "--resume", overrides=overrides).returncode == 0
    assert_ends_alike(killed / "results", whole / "results", overrides)


@pytest.mark.slow
def test_a_results_folder_that_is_renamed_ends_the_run_and_is_not_made_again(tmp_path):
    with started_run(tmp_path) as process:
        hold_in_the_middle(process, tmp_path / "results", epochs_done=2)
        (tmp_path / "results").rename(tmp_path / "moved")
        process.send_signal(signal.SIGCONT)
        _, errors = process.communicate(timeout=HANGS_AFTER_S)
    assert process.returncode == 2
    assert (errors.startswith("error: "), errors.count("\n")) == (True, 1), errors
    assert [path.name for path in tmp_path.iterdir()] == ["moved"]
    (tmp_path / "moved").rename(tmp_path / "results")
    assert train(tmp_path, "--resume").returncode == 0
    assert state_of(tmp_path / "results")[0] == "finished"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_a_command_still_imports_ends_it_without_a_word(tmp_path, number):
    with started_run(tmp_path, is_forked=False) as process:
        while not _waits_for(process.pid, number):
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(number)
        said = process.communicate(timeout=HANGS_AFTER_S)
    assert (process.returncode, *said) == (128 + number, "", "")


def _waits_for(pid: int, number: signal.Signals) -> bool:
    """Return whether a process has blocked a signal, which one of its threads waits for."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    (blocked,) = (int(line.split()[1], 16) for line in status if line.startswith("SigBlk:"))
    return bool(blocked >> (number - 1) & 1)
