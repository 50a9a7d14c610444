"""The number of threads of a run: by the work of its operations, unless it is given."""

import json
import subprocess
import sys

import pytest
import torch

from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import replace
from mcl_ray.data.source import dataset_for
from mcl_ray.training.threads import num_threads, suitable_threads
from tests.support.commands import HANGS_AFTER_S, surroundings

SMALL, LARGE = (recipes.digits(), 10, (1, 8, 8)), (recipes.cifar(), 100, (3, 32, 32))
TRAINS = """
import json
import torch
from mcl_ray.callbacks import RunCallback
from mcl_ray import CohortTrainer


class Threads(RunCallback):
    def on_epoch_end(self, epoch):
        seen.append(torch.get_num_threads())


torch.set_num_threads(2)
seen = []
for options in ({"seed": 0}, {"seed": 1, "threads": 2}):
    CohortTrainer("digits", epochs=1, callbacks=[Threads()], device="cpu", **options).fit()
print(json.dumps([*seen, torch.get_num_threads()]))
"""


@pytest.fixture
def two(monkeypatch):
    """Two threads by torch's choice, and none that is given."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_small_operations_have_one_thread_and_large_ones_torchs_choice(two):
    assert (num_threads(*SMALL), num_threads(*LARGE)) == (1, 2)
    few = replace(LARGE[0], {"batch.size": 8, "cohort.networks": "resnet8"})
    assert num_threads(few, *LARGE[1:]) == 1


def test_a_number_that_is_given_by_the_environment_stays(two, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert num_threads(*SMALL) == 2


def test_the_number_is_as_before_after_a_run_unless_it_was_given(two, tmp_path):
    environment = Environment(device="cpu", results=tmp_path)
    dataset = dataset_for(SMALL[0], environment)
    with suitable_threads(SMALL[0], dataset, environment):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


@pytest.mark.slow
def test_a_run_in_a_fresh_process_has_one_thread_and_two_if_they_are_given(tmp_path):
    """Without the variable that the tests set for themselves."""
    variables = {name: value for name, value in surroundings().items() if name != "OMP_NUM_THREADS"}
    words = [sys.executable, "-c", TRAINS]
    done = subprocess.run(
        words, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=HANGS_AFTER_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [1, 2, 2]
