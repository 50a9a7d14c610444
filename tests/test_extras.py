"""Dependencies in groups: the base alone reads and reports results, and a command names the extra that it lacks."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mcl_ray.extras import EXTRAS, missing_extra

ROOT = Path(__file__).parents[1]
FIXTURE = ROOT / "tests" / "fixtures" / "c5bbcbf" / "results"
SWEEP = "sweeps/digits-b27ebce308-1"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BASE_MODULES = (
    "mcl_ray.analysis.ranking",
    "mcl_ray.reports.build",
    "mcl_ray.results.store",
    "searches.spec.suite_registry",
)
IMPORTED_BY_OTHERS = {"httpx", "pandas", "scipy", "scikit-learn", "tzdata"}
"""Dependencies that no module of ours imports, or not yet: pyproject.toml says who does."""
TIMEOUT_S = 900
HIDE = """
import importlib.machinery, json, runpy, sys

class Installed(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else super().find_spec(name, path, target)

hidden = frozenset(json.loads(sys.stdin.read()))
sys.meta_path[:] = [Installed if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
sys.argv = sys.argv[1:]
"""
RUN = HIDE + 'from mcl_ray.cli.main import main\nsys.argv = ["mcl", *sys.argv]\nmain()'
IMPORT = HIDE + "import importlib\n[importlib.import_module(name) for name in sys.argv]"


def dependencies(*extras: str) -> list[str]:
    """Return the requirements of this project with some extras."""
    groups = PROJECT["optional-dependencies"]
    return [*PROJECT["dependencies"], *(one for extra in extras for one in groups[extra])]


def closure(requirements: list[str]) -> set[str]:
    """Return the installed distributions that the requirements bring with them, by normalised names."""
    found: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, of_extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": of_extra}):
            continue
        for extra in ("", *requirement.extras):
            key = canonicalize_name(requirement.name), extra
            if key not in found:
                found.add(key)
                needed = importlib.metadata.requires(requirement.name) or []
                waiting += [(Requirement(text), extra) for text in needed]
    return {name for name, _ in found}


distributions_of_modules = functools.cache(importlib.metadata.packages_distributions)


@functools.cache
def hidden_modules(*extras: str) -> list[str]:
    """Return the top-level modules of all installed distributions that the base with these extras lacks."""
    known = closure(dependencies(*extras)) | {"mcl-ray"}
    return sorted(
        module
        for module, distributions in distributions_of_modules().items()
        if known.isdisjoint(map(canonicalize_name, distributions))
        and module not in {*PACKAGES, "_distutils_hack", "distutils-precedence", "sitecustomize"}
    )


PACKAGES = ("mcl_ray", "trainables", "searches", "api")


def run(script: str, *arguments: str, hidden: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in an interpreter in which the hidden modules are not installed."""
    variables = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "COLUMNS")}
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=cwd, env=variables, input=json.dumps(hidden), capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip


@pytest.fixture(scope="module")
def base() -> list[str]:
    hidden = hidden_modules()
    assert {"torch", "torchvision", "ray", "optuna", "pandas", "sklearn", "fastapi", "pytest"} <= set(hidden)
    assert {"numpy", "pyarrow", "pydantic", "rich", "matplotlib", "plotly", "yaml", "cyclopts"}.isdisjoint(hidden)
    return hidden


def test_the_base_imports_what_needs_no_extra(base, tmp_path):
    done = run(IMPORT, *BASE_MODULES, hidden=base, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("command", ["fields", "recipes", "searches", "suites"])
def test_the_base_lists_what_is_known_by_name(command, base, tmp_path):
    done = run(RUN, command, hidden=base, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "digits" in done.stdout or command == "fields"


@pytest.mark.slow
def test_the_base_reports_a_sweep(base, tmp_path):
    shutil.copytree(FIXTURE, tmp_path / "results")
    done = run(RUN, "report", f"results/{SWEEP}", hidden=base, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "95.99" in done.stdout
    page = (tmp_path / "results" / SWEEP / "report" / "report.html").read_text()
    assert "importances need at least 8 configurations with a value at one epoch, but got 3" in page


def test_the_base_reads_times_where_the_system_has_no_time_zones(base, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONTZPATH", "")
    shutil.copytree(FIXTURE, tmp_path / "results")
    done = run(RUN, "runs", "list", "results", hidden=base, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert SWEEP.partition("/")[2] in done.stdout


def test_the_base_prints_a_published_table(base, tmp_path):
    shutil.copytree(FIXTURE, tmp_path / "results")
    done = run(RUN, "table", "cifar", "results", hidden=base, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "installed", "user", "extra"),
    [
        ("train digits --threads 1", (), "mcl train", "train"),
        ("export results/runs/digits-fe38fc1aca-1", (), "mcl export", "train"),
        ("sweep digits", ("train",), "mcl sweep", "ray"),
        ("sweep table digits", ("train",), "mcl sweep table", "ray"),
        ("train digits --workers 2", ("train",), "mcl train", "ray"),
    ],
)
def test_a_command_names_the_extra_that_it_lacks(words, installed, user, extra, tmp_path):
    shutil.copytree(FIXTURE, tmp_path / "results")
    (checkpoints := tmp_path / "results" / "runs" / "digits-fe38fc1aca-1" / "checkpoints").mkdir()
    (checkpoints / "epoch-0002-0000000000000000.pt").touch()
    done = run(RUN, *words.split(), hidden=hidden_modules(*installed), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"error: `{user}` requires the extra `{extra}`: pip install 'mcl-ray[{extra}]'\n"


def test_another_missing_module_is_an_error_of_ours():
    assert (
        missing_extra(ModuleNotFoundError("No module named 'mcl_ray.lost'", name="mcl_ray.lost"), "mcl train") is None
    )


def imported_modules() -> set[str]:
    """Return every top-level module that the packages import, in functions too."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    parts = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.partition(".")[0] for name in plain | parts} - sys.stdlib_module_names - {*PACKAGES}


def test_every_import_is_a_declared_dependency():
    distributions = distributions_of_modules()
    declared = {
        canonicalize_name(Requirement(text).name): extra
        for extra in ("notebook", "service", "ray", "train", "")
        for text in (PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"])
    }
    undeclared = {
        module: extra
        for module in imported_modules()
        for extra in [{declared.get(canonicalize_name(name)) for name in distributions[module]} - {None}]
        if not extra
    }
    of_ray = {"grpc": set(), "psutil": set()}
    assert undeclared == of_ray, "grpc comes with ray[default], whose errors it raises; Ray's wheel has psutil in it"
    for module in imported_modules() - of_ray.keys():
        extra = next(declared[canonicalize_name(name)] for name in distributions[module])
        assert EXTRAS.get(module, "") == extra, module


def test_every_dependency_of_training_and_search_is_imported():
    distributions = distributions_of_modules()
    imported = {canonicalize_name(name) for module in imported_modules() for name in distributions.get(module, [])}
    declared = {canonicalize_name(Requirement(text).name) for text in dependencies("train", "ray")}
    assert declared - imported - IMPORTED_BY_OTHERS == set()


def test_the_setup_script_installs_every_extra():
    """The pins hold all groups; `./run` installs the pins."""
    pinned = {
        canonicalize_name(name)
        for name in re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    }
    for text in dependencies(*PROJECT["optional-dependencies"]):
        assert canonicalize_name(Requirement(text).name) in pinned
