"""The processes of a local Ray that wait for the first trials have imported what these need."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
import ray
from ray import tune
from mcl_ray.config.execution import ExecutionOptions
from searches.tune.inherited_variables import inherited_variables
from trainables.cluster.connect import connect

def trial(config):
    own = dict(ray.get_runtime_context().runtime_env)
    tune.report({"imported": "trainables.tune_function" in sys.modules, "given": os.environ["GIVEN"], "own": str(own)})

run = tune.RunConfig(storage_path=sys.argv[1], verbose=0)
with connect(ExecutionOptions(no_dashboard=True), preloaded=["trainables.preloaded_trial"]), inherited_variables():
    found = tune.Tuner(tune.with_resources(trial, {"CPU": 1}), run_config=run).fit()[0].metrics
print(found["imported"], found["given"], found["own"])
"""

OF_THE_USER = """
import ray
from mcl_ray.config.execution import ExecutionOptions
from trainables.cluster.connect import connect, has_started_ray

options, found = ExecutionOptions(no_dashboard=True), []
ray.init(address="local", include_dashboard=False, log_to_driver=False, num_cpus=1)
with connect(options):
    found.append(has_started_ray())
ray.shutdown()
with connect(options):
    found.append(has_started_ray())
print(*found, has_started_ray())
"""


@pytest.mark.slow
def test_a_ray_that_the_user_has_started_need_not_have_the_environment_of_this_process():
    """Trials then have the variables, such as credentials of a store, that Tune passes on."""
    command = [sys.executable, "-c", OF_THE_USER]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout.splitlines()[-1:] == ["False True False"], ended.stderr


@pytest.mark.slow
def test_a_trial_runs_in_a_process_that_has_imported_what_trains_and_that_ray_has_started_in_advance(
    tmp_path, monkeypatch
):
    """A process that has variables of its own is not one of those that Ray starts in advance."""
    monkeypatch.setenv("GIVEN", "here")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout.splitlines()[-1:] == ["True here {}"], ended.stderr
