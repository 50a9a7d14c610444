"""The variables that Ray reads at import are set when it is imported, whichever of our modules is imported first."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainables.ray_environment import RAY_VARIABLES

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("trainables", "searches/tune")

# For each module: forget every module of ours and of Ray's, import it alone, and stop at the first import of ray.
RECORDS = """
import importlib, importlib.abc, json, os, sys

class StopAtRay(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "ray":
            self.environment = dict(os.environ)
            raise ImportError("stopped at ray")

empty, seen = dict(os.environ), {}
for module in sys.argv[1:]:
    os.environ.clear()
    os.environ.update(empty)
    for name in list(sys.modules):
        if name.partition(".")[0] in ("mcl_ray", "trainables", "searches", "ray"):
            del sys.modules[name]
    finder = StopAtRay()
    sys.meta_path.insert(0, finder)
    try:
        importlib.import_module(module)
    except ImportError as error:
        assert "stopped at ray" in str(error), (module, error)
        seen[module] = finder.environment
    finally:
        sys.meta_path.remove(finder)
print(json.dumps(seen))
"""


def modules_of(package):
    files = [path.relative_to(ROOT).with_suffix("").parts for path in (ROOT / package).rglob("*.py")]
    return sorted(".".join(parts[:-1] if parts[-1] == "__init__" else parts) for parts in files)


@pytest.fixture(scope="module")
def environments():
    """Module → the environment at the moment at which importing it alone imports ray."""
    names = [name for package in PACKAGES for name in modules_of(package)]
    arguments = [sys.executable, "-c", RECORDS, *names]
    done = subprocess.run(arguments, cwd=ROOT, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_variable_is_set_when_ray_is_imported(environments):
    assert len(environments) > 15, "most of these modules import ray"
    missing = {
        module: sorted(RAY_VARIABLES.keys() - environment.keys())
        for module, environment in environments.items()
        if not RAY_VARIABLES.items() <= environment.items()
    }
    assert missing == {}


def test_a_value_of_the_user_stays(environments):
    import_alone = "import os, trainables; print(os.environ['RAY_AUTH_MODE'])"
    arguments = [sys.executable, "-c", import_alone]
    done = subprocess.run(
        arguments, cwd=ROOT, env={"RAY_AUTH_MODE": "disabled"}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "disabled\n"


def test_an_authentication_mode_that_ray_has_not_read_is_not_set():
    program = (
        "import ray, os, trainables; print(os.environ.get('RAY_AUTH_MODE'), os.environ['RAY_USAGE_STATS_ENABLED'])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env={}, capture_output=True, text=True, check=True)
    assert done.stdout == "None 0\n"


@pytest.mark.slow
def test_a_user_may_import_ray_first(tmp_path):
    """As in a notebook of a Ray user: the sweep runs, in an environment that has no variable of Ray's."""
    program = """
import ray
from mcl_ray import CohortTuner
options = {"device": "cpu", "no_dashboard": True, "space": {"cohort.size": None}}
overrides = {"run.cohort.size": 1, "scheduler.kind": "none", "baseline": {}, "confirm.configurations": 0}
print(CohortTuner("digits", trials=1, epochs=1, overrides=overrides, **options).fit().state)
"""
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "finished\n"), done.stderr
