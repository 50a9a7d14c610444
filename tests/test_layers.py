"""The layers of the packages: every module is in one, and those below training import none of its libraries."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINTER = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
LAYERS, ACYCLIC, BELOW_RUNNER, LIGHT = LINTER["contracts"][:4]
WITHOUT_A_LAYER = {"mcl_ray", "trainables", "searches", "api"}
"""The roots themselves: docstrings, and the public names of `mcl_ray`, which are imported when they are asked for."""
HEAVY = ("torch", "torchvision", "ray", "optuna")
LIGHT_PACKAGES = [
    *("mcl_ray.analysis", "mcl_ray.callbacks", "mcl_ray.config", "mcl_ray.errors", "mcl_ray.object_store"),
    *("mcl_ray.reports", "mcl_ray.results", "searches.spec"),
]
TIMEOUT_S = 900
IMPORT_WITHOUT = """
import importlib, importlib.abc, sys, traceback

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

blocked, modules = sys.argv[1].split(","), sys.argv[2].split(",")
sys.meta_path.insert(0, Blocker())
for module in modules:
    try:
        importlib.import_module(module)
    except ImportError as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
        print(module, *(f"{frame.filename}:{frame.lineno}" for frame in frames[1:]), error, sep=" -> ")
"""
"""Imports modules in an interpreter that has no `blocked` packages; prints the chain of imports of each that fails."""


def modules_below(root: str) -> set[str]:
    """The dotted names of all modules of a package on disk, the package included."""
    files = [path.relative_to(ROOT).with_suffix("").parts for path in (ROOT / root).rglob("*.py")]
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts) for parts in files}


def names_in(layers: list[str]) -> list[str]:
    """The modules that the lines of a layers contract name."""
    return [name for line in layers for name in re.findall(r"[\w.]+", line)]


def layers_of(module: str, layers: list[str]) -> list[str]:
    """The layers that hold a module: itself, or a package that it is in."""
    return [name for name in names_in(layers) if module == name or module.startswith(f"{name}.")]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=ROOT
    )


def test_every_module_is_in_one_layer():
    modules = {module for root in LINTER["root_packages"] for module in modules_below(root)} - WITHOUT_A_LAYER
    assert len(modules) > 150
    assert {module for module in modules if not layers_of(module, LAYERS["layers"])} == set()
    assert {module for module in modules if len(layers_of(module, LAYERS["layers"])) > 1} == set()


def test_every_package_of_this_checkout_is_under_the_contracts():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert packages == set(LINTER["root_packages"]) == set(ACYCLIC["ancestors"])


def test_every_layer_is_on_disk_unless_it_may_be_missing():
    modules = {module for root in LINTER["root_packages"] for module in modules_below(root)}
    optional = {name for line in LAYERS["layers"] for name in re.findall(r"\(([\w.]+)\)", line)}
    assert set(names_in(LAYERS["layers"])) - optional <= modules


@pytest.mark.parametrize("module", ["mcl_ray.new", "searches.new", "trainables.new", "mcl_ray.cohorts"])
def test_a_new_module_is_in_no_layer(module):
    assert layers_of(module, LAYERS["layers"]) == []


def test_only_the_runner_and_what_is_above_it_may_know_ray():
    lines = LAYERS["layers"]
    below = names_in(lines[lines.index("mcl_ray.runner") + 1 :])
    expected = {name for name in below if name.startswith("mcl_ray.")}
    assert set(BELOW_RUNNER["source_modules"]) == {name for name in expected if (ROOT / name.replace(".", "/")).is_dir()
        or (ROOT / f"{name.replace('.', '/')}.py").is_file()}  # fmt: skip
    assert set(BELOW_RUNNER["forbidden_modules"]) == {"ray", "optuna", "fastapi"}


def test_the_light_packages_are_those_of_the_contract():
    assert sorted(LIGHT["source_modules"]) == sorted(LIGHT_PACKAGES)
    assert set(LIGHT["forbidden_modules"]) == set(HEAVY)


@pytest.mark.parametrize("package", LIGHT_PACKAGES)
def test_a_light_package_imports_without_torch_ray_and_optuna(package):
    """Each module of the package, in a fresh interpreter in which an attempt to import one of those raises."""
    path = package.replace(".", "/")
    modules = sorted(modules_below(path)) if (ROOT / path).is_dir() else [package]
    done = run("-c", IMPORT_WITHOUT, ",".join(HEAVY), ",".join(modules))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_tests_import_helpers_and_contracts_but_no_other_tests():
    imported = {
        (path.relative_to(ROOT).as_posix(), module)
        for path in (ROOT / "tests").rglob("*.py")
        for module in re.findall(r"^ *(?:from|import) (tests\.[\w.]+)", path.read_text(), re.MULTILINE)
    }
    assert len(imported) > 100
    folders = {"support", "oracles", "contracts"}
    assert {(path, name) for path, name in imported if name.split(".")[1] not in folders} == set()


def test_a_blocked_import_is_reported_with_its_chain():
    done = run("-c", IMPORT_WITHOUT, "torch", "mcl_ray.errors,mcl_ray.training.loop")
    (line,) = done.stdout.splitlines()
    assert line.startswith("mcl_ray.training.loop -> ")
    assert line.endswith(" -> torch is blocked")
    assert "mcl_ray/training/loop.py:" in line


def test_the_package_itself_imports_no_third_party_package():
    """Its own imports take under 0.15 s, since it has none but its errors and the standard library's."""
    script = """
import sys
before = set(sys.modules)
import mcl_ray
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))
print(*sorted(name for name in set(sys.modules) - before if name.startswith("mcl_ray")))
"""
    done = run("-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    third_party, own = done.stdout.splitlines()
    assert third_party == "mcl_ray"
    assert len(own.split()) <= 5
