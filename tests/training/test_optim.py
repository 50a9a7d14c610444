import math

import pytest

from mcl_ray.config.spec import ScheduleSpec
from mcl_ray.training.optim import learning_rate


def test_cosine_falls_from_the_initial_rate_towards_zero():
    schedule = ScheduleSpec(epochs=4)
    rates = [learning_rate(0.1, schedule, epoch) for epoch in range(4)]
    assert rates == pytest.approx([0.1, 0.05 * (1 + math.sqrt(0.5)), 0.05, 0.05 * (1 - math.sqrt(0.5))])


def test_multistep_drops_at_each_milestone():
    schedule = ScheduleSpec(epochs=6, kind="multistep", milestones=(2, 4), factor=0.1)
    assert [learning_rate(1.0, schedule, epoch) for epoch in range(6)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
