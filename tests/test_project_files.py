"""The files that describe the project to tools: the wheel's content, the citation, the hooks, and the hosted CI."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import mcl_ray
from mcl_ray.config import yaml12

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PYPROJECT["tool"]["importlinter"]["root_packages"]
HANGS_AFTER_S = 900


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The wheel, built without an environment of its own, as that would need a network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS_AFTER_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.iterdir()
    return zipfile.ZipFile(path)


def test_the_wheel_has_every_file_of_the_packages_and_nothing_else(wheel):
    on_disk = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == on_disk
    assert {"api/page/index.html", "api/openapi.json", "api/migrations/script.py.mako"} <= packed


@pytest.mark.slow
def test_the_wheel_runs_outside_of_the_checkout(wheel, tmp_path):
    """Unpacked, as pure Python is installed: it trains, and its service makes a database and a key."""
    wheel.extractall(tmp_path / "packages")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "packages"), "OMP_NUM_THREADS": "1"}

    def run(*words):
        command = [sys.executable, *words]
        folder = tmp_path / "elsewhere"
        folder.mkdir(exist_ok=True)
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=HANGS_AFTER_S, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    files = run("-c", f"import {', '.join(PACKAGES)}; print({', '.join(f'{name}.__file__' for name in PACKAGES)})")
    assert files.split() == [str(tmp_path / "packages" / name / "__init__.py") for name in PACKAGES]
    run("-m", "mcl_ray", "train", "digits", "epochs=1", "cohort.size=1")
    assert list((tmp_path / "elsewhere" / "results" / "runs").glob("digits-*/epochs-a0001.parquet"))
    assert run("-m", "mcl_ray", "serve", "create-key", "--owner", "ada").count("mcl_") == 1


def test_the_packages_in_the_wheel_are_typed(wheel):
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(wheel.namelist())


def test_the_wheel_states_and_has_its_licence(wheel):
    info = f"mcl_ray-{mcl_ray.__version__}.dist-info"
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    licence = wheel.read(f"{info}/licenses/LICENSE").decode()
    assert licence == (ROOT / "LICENSE").read_text()
    assert re.match(r"\s+Apache License\n\s+Version 2\.0, January 2004\n", licence)


def test_the_citation_is_of_this_version_and_of_the_paper():
    citation = yaml12.load((ROOT / "CITATION.cff").read_text())
    project = PYPROJECT["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert project["version"] == mcl_ray.__version__
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Yang", "An", "Cai", "Xu"]
    assert paper["identifiers"][0]["value"] == "arXiv:2104.12565"


def test_the_hooks_are_the_quick_steps_of_the_ci():
    """Local hooks alone, so that nothing is fetched, each a command of this checkout's environment."""
    config = yaml12.load((ROOT / ".pre-commit-config.yaml").read_text())
    (local,) = config["repos"]
    assert local["repo"] == "local"
    hooks = [hook["entry"].removesuffix(" --force-exclude").removesuffix(" .") for hook in local["hooks"]]
    steps = re.findall(r"^(\./run .*)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert hooks == [step.removesuffix(" .").removesuffix(" --check") for step in steps if "pytest" not in step]


def test_the_hosted_ci_runs_the_ci_of_this_repository_alone():
    workflow = yaml12.load((ROOT / ".github/workflows/ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert workflow["permissions"] == {"contents": "read"}
