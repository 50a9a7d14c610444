import pytest
import torch

from mcl_ray.errors import NonFiniteLossError
from mcl_ray.training.metrics import StepMeter


def recorded(values, steps_per_log):
    meter = StepMeter(steps_per_log, torch.device("cpu"))
    for value in values:
        if meter.record({"vcl": torch.tensor(1.0), "loss": torch.tensor(value)}):
            meter.read(epoch=3)
    meter.read(epoch=3)
    return meter


@pytest.mark.parametrize("steps_per_log", [1, 2, 3, 10])
def test_means_count_every_step_once(steps_per_log):
    assert recorded([1.0, 2.0, 6.0], steps_per_log).means() == {"vcl": 1.0, "loss": 3.0}


@pytest.mark.parametrize("steps_per_log", [1, 2, 10])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_the_first_bad_step_is_named_with_its_term(steps_per_log, bad):
    with pytest.raises(NonFiniteLossError, match=r"but loss = -?(nan|inf) at step 2 of epoch 3"):
        recorded([1.0, bad, bad], steps_per_log)
