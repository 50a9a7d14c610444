"""A worker of a Ray of the tests has its imports from its server, and otherwise what a raylet gives it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import ray_worker
from tests.support.commands import HANGS_AFTER_S
from tests.support.forked import ON_RAY, ForkedProcess
from tests.support.running_command import descendants, named

DRIVER = """
import os, subprocess, sys
import ray

ray.init(sys.argv[1], log_to_driver=False)

@ray.remote(num_cpus=0)
class Actor:
    def facts(self):
        imported = {"torch", "ray.tune"} <= sys.modules.keys()
        job, child = ray.get_runtime_context().get_job_id(), subprocess.Popen(["sleep", "600"])
        return os.getpid(), child.pid, imported, os.nice(0), os.environ["GIVEN"], job

actor = Actor.options(runtime_env={"env_vars": {"GIVEN": "here"}}).remote()
print(*ray.get(actor.facts.remote()), ray.get_runtime_context().get_job_id(), flush=True)
sys.stdin.readline()
try:
    ray.get(actor.facts.remote())
except ray.exceptions.RayActorError:
    print("has died")
"""


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["worker", "started"])
def test_a_worker_its_children_and_what_the_raylet_started_end_together(shared_ray, tmp_path, victim):
    (tmp_path / "driver.py").write_text(DRIVER)
    command, pipes = [sys.executable, "driver.py", shared_ray.address], {"stdin": -1, "stdout": -1, "stderr": -1}
    variables = os.environ | shared_ray.variables
    with ForkedProcess(command, ON_RAY, cwd=tmp_path, env=variables, text=True, **pipes) as driver:
        worker, child, is_imported, niceness, given, job, drivers_job = driver.stdout.readline().split()
        assert (is_imported, niceness, given, job) == ("True", "15", "here", drivers_job)
        started = [pid for pid in descendants(shared_ray.pid, "ray_worker.py") if named([pid], worker)]
        processes = dict(zip(("worker", "child", "started"), (int(worker), int(child), *started), strict=True))
        os.kill(processes[victim], signal.SIGKILL)
        killed = time.monotonic()
        while left := [name for name, process in processes.items() if Path(f"/proc/{process}").exists()]:
            assert time.monotonic() - killed < HANGS_AFTER_S, left
            time.sleep(0.01)
        output, errors = driver.communicate("\n")
    assert output.splitlines()[-1:] == ["has died"], errors  # after what Ray says of it


@pytest.mark.parametrize("context", [{"py_executable": "uv run python"}, {"env_vars": {"PATH": "here:$PATH"}}])
def test_ray_sets_up_a_runtime_environment_that_has_more_than_variables(tmp_path, context):
    (tmp_path / "setup_worker.py").write_text("import sys; print(*sys.argv[1:], sep='\\n')")
    options = [f"{ray_worker.FOR_SETUP[0]}{json.dumps(context)}", "--language=PYTHON"]
    words = [str(tmp_path / "default_worker.py"), *options]
    command = [sys.executable, ray_worker.__file__, *words]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines() == words
