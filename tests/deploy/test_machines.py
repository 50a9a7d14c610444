"""The files for plain machines: Ray's validator takes them, systemd understands them, and the Slurm job resumes."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pyarrow.parquet
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from api.settings import Settings
from tests.support.deploy_tools import DEPLOY, HANGS_AFTER_S, ROOT, call
from trainables.cluster.local_ray import DRIVERS_END_WITHIN_S, ENDS_WITHIN_S

MACHINES = DEPLOY / "machines"
CLUSTERS = sorted(MACHINES.glob("ray-*.yaml"))
UNIT = (MACHINES / "mcl-ray.service").read_text()
SLURM = MACHINES / "slurm.sbatch"


@pytest.fixture(params=CLUSTERS, ids=lambda file: file.stem)
def cluster(request):
    return yaml.safe_load(request.param.read_text())


def test_ray_takes_the_cluster(cluster):
    validate_config(prepare_config(cluster))


def test_ray_refuses_a_wrong_key(cluster):
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config(cluster | {"idle_minutes": 5}))


def test_every_node_has_the_token_and_asks_for_it(cluster):
    assert cluster["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        (start,) = [command for command in cluster[name] if "ray start" in command]
        assert "RAY_AUTH_MODE=token ./run ray start" in start


def test_the_options_of_ray_start_exist(cluster):
    start = importlib.import_module("ray.scripts.scripts").start
    known = {name for option in start.params for name in option.opts}
    commands = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    used = {word.partition("=")[0] for command in commands for word in command.split() if word.startswith("--")}
    assert used
    assert used <= known
    assert sum("--head" in command for command in cluster["head_start_ray_commands"]) == 1


def unit_variables():
    lines = re.findall(r"^Environment=(.*)$", UNIT, re.MULTILINE)
    return dict(word.split("=", 1) for line in lines for word in shlex.split(line))


def test_the_unit_is_understood_by_systemd(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze, which is missing here")
    file = tmp_path / "mcl-ray.service"
    file.write_text(UNIT.replace("/opt/mcl/bin/python", sys.executable))
    done = call("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", file)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    file.write_text(file.read_text().replace("ProtectSystem=", "ProtectSystems="))
    done = call("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", file)
    assert "ProtectSystems" in done.stderr, "a wrong key is found"


def test_the_settings_of_the_unit_are_valid(monkeypatch):
    given = {name: value for name, value in unit_variables().items() if name.startswith("MCL_")}
    assert given.keys() <= {f"MCL_{name.upper()}" for name in Settings.model_fields}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    (folder,) = re.findall(r"^StateDirectory=(.*)$", UNIT, re.MULTILINE)
    assert Path(f"/var/lib/{folder}") == settings.state
    assert settings.results_root.is_relative_to(settings.state)
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert int(seconds) > DRIVERS_END_WITHIN_S + ENDS_WITHIN_S + settings.shutdown_s
    for page in (MACHINES / "README.md", ROOT / "docs" / "service.md"):
        (stated,) = re.findall(r"drivers [^.]*? (\d+) s\b", " ".join(page.read_text().split()))
        assert float(stated) == DRIVERS_END_WITHIN_S, page
    assert "python -m mcl_ray.serve\n" in UNIT


@contextlib.contextmanager
def slurm_job(folder, restarts, *words):
    """The batch script, started as Slurm does, with a `scontrol` that writes down its arguments."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    scontrol = programs / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {folder}/scontrol.log\n')
    scontrol.chmod(0o755)
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    given = {"PATH": path, "PYTHONPATH": str(ROOT), "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": restarts}
    with subprocess.Popen(
        ["bash", SLURM, *words],
        cwd=folder,
        env=os.environ | given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as job:
        try:
            yield job
        finally:
            if job.poll() is None:
                job.terminate()


def figures(file):
    """Figures of an attempt, as rows without the columns that say when and by what they were recorded."""
    table = pyarrow.parquet.read_table(file, columns=["epoch", "split", "metric", "member", "value"])
    return {tuple(row.values()) for row in table.to_pylist()}


def outcome(job):
    """Exit code of a job and what it printed, once it has ended."""
    said = job.communicate(timeout=HANGS_AFTER_S)[0]
    return job.returncode, said


@pytest.mark.slow
def test_a_slurm_job_is_queued_again_at_its_limit_and_resumes(tmp_path):
    words = ("train", "digits", "epochs=30")
    with slurm_job(tmp_path, "0", *words) as job:
        ends = time.monotonic() + HANGS_AFTER_S
        while not list(tmp_path.glob("results/slurm-7/runs/*/checkpoints/*.pt")):
            assert job.poll() is None
            assert time.monotonic() < ends
            time.sleep(0.2)
        job.send_signal(signal.SIGTERM)  # to the script alone, as --signal=B:TERM@300 has it
        code, said = outcome(job)
    assert (code, (tmp_path / "scontrol.log").read_text()) == (0, "requeue 7\n"), said
    with slurm_job(tmp_path, "1", *words) as job:
        code, said = outcome(job)
    assert (code, (tmp_path / "scontrol.log").read_text()) == (0, "requeue 7\n"), said
    (run,) = tmp_path.glob("results/slurm-7/runs/*")
    first, second = (figures(run / f"epochs-a000{attempt}.parquet") for attempt in (1, 2))
    assert max(epoch for epoch, *_ in first) < max(epoch for epoch, *_ in second) == 30
    assert first <= second, "what was recorded is continued, speeds included, and not trained again"


def test_a_slurm_job_that_was_ended_before_it_began_starts_anew(tmp_path):
    """Nothing is there to resume: the program says so by exit code 2, and is started without `--resume`."""
    (tmp_path / "results" / "slurm-7").mkdir(parents=True)
    with slurm_job(tmp_path, "1", "train", "digits", "cohort.size=0") as job:
        code, said = outcome(job)
    assert code == 2
    assert said.count("error: ") == 2, said


def test_a_slurm_job_runs_two_commands_alone(tmp_path):
    with slurm_job(tmp_path, "0", "serve") as job:
        code, said = outcome(job)
    assert code == 2
    assert "usage: sbatch slurm.sbatch train|sweep" in said


def test_the_slurm_job_leaves_time_to_end():
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", SLURM.read_text(), re.MULTILINE))
    assert options["signal"] == "B:TERM@300"
    assert "requeue" in options
    assert options["open-mode"] == "append"


def test_the_readme_names_every_file():
    readme = (MACHINES / "README.md").read_text()
    files = {file.name for file in MACHINES.iterdir()} - {"README.md"}
    assert files == set(re.findall(r"^\| \[([\w.-]+)\]", readme, re.MULTILINE))
