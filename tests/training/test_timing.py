"""The speed of this machine for a dry run, and the wall time that it gives."""

import pytest
import torch

from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import replace
from mcl_ray.reports.dry_run import run_dry_run, wall_time_text
from mcl_ray.training.estimate import estimate_run
from mcl_ray.training.timing import multiply_adds_per_second, runs_at_once

LINEAR = replace(recipes.lincls(), {"linear.backbone": "random", "data.image_size": 32, "cohort.networks": "resnet18"})


@pytest.mark.parametrize("spec", [recipes.digits(), replace(recipes.moco(), {"data.image_size": 32}), LINEAR])
def test_every_method_s_passes_are_timed_and_threads_stay_as_they_were(spec):
    before = torch.get_num_threads()
    speed = multiply_adds_per_second(spec, estimate_run(spec, Environment()), "cpu", before + 1)
    assert 1e6 < speed < 1e16
    assert torch.get_num_threads() == before
    assert runs_at_once("cpu", 10_000) == 1


def test_the_wall_time_is_the_work_over_the_speed_of_all_workers():
    assert wall_time_text(7.2e12, 1e9, 1).startswith("about 2 h 00 min on this machine, by steps ")
    assert wall_time_text(7.2e12, 1e9, 4).startswith("about 30 min 00 s on this machine, 4 workers at once, ")
    assert wall_time_text(3.6e15, 1e9, 1).startswith("about 41 d 16 h ")
    spec = recipes.digits()
    plan = estimate_run(spec, Environment())
    work = 3 * plan.steps * spec.batch.size * plan.multiply_adds
    text = run_dry_run(spec, plan, speed=work / 90)
    assert "wall time        about 1 min 30 s on this machine" in text
    assert "wall time" not in run_dry_run(spec, plan)
