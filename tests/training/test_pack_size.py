"""How many runs share their steps is measured."""

import pytest

from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import replace
from mcl_ray.data.source import dataset_for
from mcl_ray.training import pack_size
from mcl_ray.training.pack_size import ALONE, FULL_S, PackSize, measure_pack_size

SPEC = replace(recipes.digits(), {"schedule.epochs": 1})
ENVIRONMENT = Environment(threads=1)


def measured(most: int) -> PackSize:
    return measure_pack_size(SPEC, dataset_for(SPEC, ENVIRONMENT), ENVIRONMENT, most)


def test_real_steps_are_measured(monkeypatch):
    times: dict[int, float] = {}
    timed = pack_size._seconds_per_step

    def noted(runs):
        return times.setdefault(len(runs), timed(runs))

    monkeypatch.setattr(pack_size, "_seconds_per_step", noted)
    monkeypatch.setattr(pack_size, "FULL_S", float("inf"))
    found = measured(2)
    assert [*times] == [1, 2]
    assert all(seconds > 0 for seconds in times.values())
    gain = 2 * times[1] / times[2]
    assert found == (PackSize(2, gain) if gain >= pack_size.GAIN else ALONE)


@pytest.mark.parametrize(
    ("seconds", "most", "wanted"),
    [
        ({1: 0.1, 2: 0.12, 4: 0.2, 8: 0.5}, 8, PackSize(4, 2.0)),
        ({1: 0.1, 2: 0.12, 4: 0.2, 8: 0.3}, 4, PackSize(4, 2.0)),
        ({1: 0.1, 2: 0.19}, 2, ALONE),
        ({1: 0.1, 2: 0.24, 4: 0.3, 8: 0.4}, 8, PackSize(8, 2.0)),
        ({1: 0.1, 2: 0.3, 4: 0.9}, 8, ALONE),
        ({1: FULL_S}, 8, ALONE),
        ({1: 0.1}, 1, ALONE),
    ],
)
def test_the_fastest_size_is_chosen_if_it_is_worth_it(monkeypatch, seconds, most, wanted):
    monkeypatch.setattr(pack_size, "_seconds_per_step", lambda runs: seconds[len(runs)])
    found = measured(most)
    assert found.size == wanted.size
    assert found.gain == pytest.approx(wanted.gain)
