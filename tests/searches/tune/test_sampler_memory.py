import json

import pytest

from mcl_ray.errors import StoreError
from searches.tune.sampler_memory import SamplerMemory


def attributes(number):
    return {"nsga2:generation": number, "parents": [number, number + 1]}


def test_what_was_saved_is_read_again(tmp_path):
    memory = SamplerMemory(tmp_path)
    memory.save({"qmc:position": 3}, {f"{number:04d}": attributes(number) for number in range(250)})
    memory.save({"qmc:position": 4}, {"0007": {"nsga2:generation": 70}, "0008": {}})
    found = SamplerMemory(tmp_path)
    assert found.of_study == {"qmc:position": 4}
    expected = {f"{number:04d}": attributes(number) for number in range(250)}
    assert found.of_trials == expected | {"0007": {"nsga2:generation": 70}}


def test_a_trial_rewrites_the_file_of_its_hundred_alone(tmp_path):
    memory = SamplerMemory(tmp_path)
    memory.save({}, {f"{number:04d}": attributes(number) for number in range(20_000)})
    before = {path.name: path.stat().st_ino for path in tmp_path.glob("sampler*")}
    memory.save({}, {"0150": {"nsga2:generation": 2}, "0003": attributes(3)})
    changed = [path.name for path in tmp_path.glob("sampler*") if before.get(path.name) != path.stat().st_ino]
    assert changed == ["sampler_0100.json"]
    assert max(path.stat().st_size for path in tmp_path.glob("sampler*")) < 10_000


def test_the_single_file_of_earlier_versions_is_read_and_kept(tmp_path):
    earlier = {"study": {"qmc:position": 3}, "trials": {"0000": attributes(0), "0001": attributes(1)}}
    (tmp_path / "sampler.json").write_text(json.dumps(earlier))
    SamplerMemory(tmp_path).save({"qmc:position": 4}, {"0001": attributes(5), "0002": attributes(2)})
    found = SamplerMemory(tmp_path)
    assert found.of_study == {"qmc:position": 4}
    assert found.of_trials == {"0000": attributes(0), "0001": attributes(5), "0002": attributes(2)}


def test_what_could_not_be_written_is_written_later(tmp_path):
    memory = SamplerMemory(tmp_path)
    (tmp_path / "sampler_0000.json").mkdir()
    with pytest.raises(StoreError, match="must be writable"):
        memory.save({}, {"0001": attributes(1)})
    (tmp_path / "sampler_0000.json").rmdir()
    memory.save({}, {"0101": attributes(2)})
    assert SamplerMemory(tmp_path).of_trials == {"0001": attributes(1), "0101": attributes(2)}


def test_a_damaged_file_costs_its_hundred_trials_alone(tmp_path):
    SamplerMemory(tmp_path).save({"qmc:position": 3}, {"0001": attributes(1), "0101": attributes(2)})
    (tmp_path / "sampler_0000.json").write_text("{")
    found = SamplerMemory(tmp_path)
    assert (found.of_study, found.of_trials) == ({"qmc:position": 3}, {"0101": attributes(2)})
    found.save({"qmc:position": 3}, {"0002": attributes(3)})
    assert SamplerMemory(tmp_path).of_trials == {"0101": attributes(2), "0002": attributes(3)}
