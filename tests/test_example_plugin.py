"""The example plugin, built as a wheel and installed beside the package: its parts are known by their names alone."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mcl_ray.config.plugins import PluginRecord
from mcl_ray.results.plugin_info import read_plugins
from mcl_ray.results.reader import read_spec
from tests.support.commands import HANGS_AFTER_S, run_command

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / "tests" / "example_plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that has the plugin installed: a wheel of pure Python is installed by unpacking it."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    done = subprocess.run(build, cwd=PLUGIN, capture_output=True, text=True, timeout=HANGS_AFTER_S, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = (folder / "dist").iterdir()
    zipfile.ZipFile(wheel).extractall(folder / "packages")
    return folder / "packages"


@pytest.fixture
def installed(site, monkeypatch):
    """Have commands find the plugin, as they do in an environment that it is installed in."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(site)]))


def test_an_installed_plugin_trains_by_its_names(installed, tmp_path):
    words = ("method=lab_smoothed", "losses.alpha=0", "beta=0", "gamma=0", "lam=0", "epochs=1")
    done = run_command(tmp_path, "train", "lab_recipe", *words)
    assert done.code == 0, done.stderr
    (run,) = (tmp_path / "results" / "runs").iterdir()
    spec = read_spec(run)
    assert (spec.plugins, spec.method, spec.cohort.networks) == (("lab_parts",), "lab_smoothed", ("lab_network",))
    ((record,),) = read_plugins(run).values()
    assert record.sha256 is not None
    assert record == PluginRecord(module="lab_parts", distribution="lab-parts", version="0.3.1", sha256=record.sha256)


def test_a_network_of_an_installed_plugin_needs_no_mention_of_its_module(installed, tmp_path):
    done = run_command(tmp_path, "train", "digits", "networks=lab_network", "--dry-run")
    assert done.code == 0, done.stderr
    assert "- lab_parts" in done.stdout, "the resolved spec names it"


def test_recipes_and_searches_of_an_installed_plugin_are_listed(installed, tmp_path):
    recipes = run_command(tmp_path, "mcl", "recipes")
    assert "Two lab_network on the stripes, two epochs." in recipes.stdout, recipes.stderr
    assert "torch" not in recipes.modules
    searches = run_command(tmp_path, "mcl", "searches")
    assert "Search the weight of lab_agreement on the stripes" in searches.stdout, searches.stderr


def test_an_installed_plugin_costs_nothing_where_no_name_of_it_is_used(installed, tmp_path):
    for words in (("mcl", "--help"), ("train", "--help"), ("train", "digits", "--dry-run")):
        done = run_command(tmp_path, *words)
        assert (done.code, "lab_parts" in done.modules) == (0, False), words
