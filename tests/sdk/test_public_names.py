"""The names that `mcl_ray` exports: imported when they are asked for, and nothing before."""

import subprocess
import sys

import pytest

import mcl_ray

# Names nothing outside the standard library after the import, and what it has loaded after each name.
LOADS = """
import sys, sysconfig
before = set(sys.modules)
import mcl_ray
print(sorted(name for name in set(sys.modules) - before if not name.startswith("mcl_ray")))
print(sorted(name for name in sys.modules if name.startswith("mcl_ray.")))
mcl_ray.CohortTrainer
print(sorted({"torch", "ray", "optuna", "matplotlib"} & set(sys.modules)))
"""


def test_the_package_imports_nothing_until_a_name_is_used():
    done = subprocess.run([sys.executable, "-c", LOADS], capture_output=True, text=True, check=True)
    others, own, heavy = map(eval_list, done.stdout.splitlines())
    assert not {name.partition(".")[0] for name in others} & {"pydantic", "yaml", "pyarrow", "rich", "numpy"}
    assert (own, heavy) == ([], [])


def eval_list(line):
    return [name.strip("' ") for name in line.strip("[]").split(",") if name]


@pytest.mark.parametrize(
    "name", ["CohortTrainer", "MclError", "Run", "RunCallback", "RunSpec", "SweepCallback", "load"]
)
def test_every_name_is_listed_and_is_what_it_says(name):
    assert name in mcl_ray.__all__
    assert name in dir(mcl_ray)
    assert getattr(mcl_ray, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'mcl_ray' has no attribute 'Trainer'"):
        _ = mcl_ray.Trainer
