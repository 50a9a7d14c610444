"""A process that trains one trial after another, on a real Ray Tune."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import HANGS_AFTER_S

ROOT = Path(__file__).resolve().parents[2]

# Two trials in one process; the first takes longer to close than the two seconds for which Tune waits by itself.
TWO_TRIALS = """
import json, sys, time
import ray
from ray import tune

def close_slowly(config):
    from trainables.tune_function import train_trial  # sets how long Tune waits
    try:
        while True:
            tune.report({"epoch": 1})
    finally:
        time.sleep(3)

ray.init(address=sys.argv[2], log_to_driver=False)
trials = tune.Tuner(
    close_slowly,
    tune_config=tune.TuneConfig(num_samples=2, max_concurrent_trials=1, reuse_actors=True),
    run_config=tune.RunConfig(storage_path=sys.argv[1], stop={"epoch": 1}, verbose=0),
).fit()
print(json.dumps([trial.metrics and trial.metrics["epoch"] for trial in trials]))
ray.shutdown()
"""


@pytest.mark.slow
def test_a_trial_that_closes_its_runs_slowly_does_not_cost_the_next_one(shared_ray, tmp_path):
    training = [sys.executable, "-c", TWO_TRIALS, str(tmp_path), shared_ray.address]
    done = subprocess.run(
        training,
        env=os.environ | shared_ray.variables,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=HANGS_AFTER_S,  # as Tune does where the second trial is lost
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [1, 1]
