"""The Containerfiles: their steps, their pins, and what the manifests expect of them."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from api.settings import Settings
from mcl_ray import __version__
from mcl_ray.cli.serve import program as serve_program
from tests.support.deploy_tools import DEPLOY, ROOT, call, program, rendered

IMAGES = DEPLOY / "images"
README = (IMAGES / "README.md").read_text()
FILES = sorted(IMAGES.glob("Containerfile.*"))
EXTRAS = {"api": {"service"}, "train": {"train", "ray", "service"}, "build": set()}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WITHOUT_TORCH = {"torch", "torchvision", "triton"}


@pytest.fixture(scope="module")
def rehearse():
    """The script, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("rehearse", IMAGES / "rehearse.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["rehearse"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["rehearse"]


@pytest.fixture(params=FILES, ids=lambda file: file.suffix[1:])
def stages(request, rehearse):
    return rehearse.parse(request.param.read_text())


def pins(text):
    """Version and hashes of each requirement, by name."""
    found = re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==([\w.!+-]+)(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    return {
        canonicalize_name(name): {(version, digest) for digest in re.findall(r"sha256:(\w{64})", rest)}
        for name, version, rest in found
    }


def all_pins():
    """Versions and hashes of each requirement of the project, which may have several by platform."""
    text = (ROOT / "requirements.txt").read_text()
    found = {}
    for block in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE):
        for name, versions in pins(block).items():
            found[name] = found.get(name, set()) | versions
    return found


def test_hadolint_finds_nothing():
    done = call(program("hadolint"), *FILES)
    assert (done.returncode, done.stdout) == (0, "")


def test_an_image_is_built_apart_from_what_runs(stages, rehearse):
    build, final = stages
    assert build.name == "build"
    assert {stage.base for stage in stages} == {rehearse.BASE}
    assert [argument for name, argument in final.steps if name == "COPY"] == ["--from=build /opt/mcl /opt/mcl"]
    assert final.last("USER") == "10001:10001"
    assert "HEALTHCHECK" in dict(final.steps)
    for name, argument in build.steps:
        if name == "RUN":
            assert argument.count("pip install") == argument.count("--require-hashes") + argument.count("--no-index")


def test_every_package_is_copied(stages):
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    copied = {argument.split()[0] for name, argument in stages[0].steps if name == "COPY"}
    assert set(packages["packages"]) <= copied


def test_what_is_copied_exists(stages):
    for name, argument in stages[0].steps:
        if name == "COPY":
            assert all((ROOT / source).exists() for source in argument.split()[:-1]), argument


@pytest.mark.parametrize("name", sorted(EXTRAS))
def test_requirements_are_parts_of_the_pins(name):
    known = all_pins()
    found = pins((IMAGES / f"requirements-{name}.txt").read_text())
    assert len(found) >= (5 if name == "build" else 60)
    for package, versions in found.items():
        assert versions
        assert versions <= known[package], package
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(one for extra in EXTRAS[name] for one in extras[extra])]
    expected = wanted if EXTRAS[name] else ["hatchling"]
    assert {canonicalize_name(Requirement(text).name) for text in expected} <= found.keys()


def test_the_image_of_the_service_has_no_torch():
    assert not WITHOUT_TORCH & pins((IMAGES / "requirements-api.txt").read_text()).keys()
    assert pins((IMAGES / "requirements-train.txt").read_text()).keys() >= WITHOUT_TORCH


def test_the_commands_of_the_images_exist(rehearse):
    (_, api), (_, train) = (rehearse.parse((IMAGES / f"Containerfile.{name}").read_text()) for name in ("api", "train"))
    assert api.command[:3] == ["python", "-m", "mcl_ray.serve"]
    serve_program("serve").parse_args(api.command[3:], exit_on_error=False, print_error=False)
    assert f"127.0.0.1:{Settings.model_fields['port'].default}/healthz" in api.last("HEALTHCHECK")
    scripts = importlib.import_module("ray.scripts.scripts")
    options = {name for option in scripts.start.params for name in option.opts}
    assert train.command[:2] == ["ray", "start"]
    assert {word for word in train.command if word.startswith("--")} <= options


def test_the_manifests_fit_the_images(stages):
    """User, writable folders and ports of the pods are those of the image."""
    final = stages[-1]
    kind = "api" if "mcl_ray.serve" in final.command else "train"
    uid, _, gid = final.last("USER").partition(":")
    ports = {int(port) for port in final.last("EXPOSE").split()}
    seen = 0
    for document in rendered("overlays/gpu"):
        for template in templates(document):
            for container in template["containers"]:
                if container["image"] == f"mcl-ray-{kind}:{__version__}":
                    seen += 1
                    security = template["securityContext"]
                    assert (security["runAsUser"], security["runAsGroup"]) == (int(uid), int(gid))
                    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
                    assert "/tmp" in mounts
                    assert final.variables["HOME"] in mounts
                    assert {port["containerPort"] for port in container.get("ports", [])} <= ports
    assert seen == (2 if kind == "api" else 3)


def templates(value):
    """Pod specifications below a value."""
    if isinstance(value, list):
        return [found for part in value for found in templates(part)]
    if not isinstance(value, dict):
        return []
    own = [value] if "containers" in value and "volumes" in value else []
    return own + [found for part in value.values() for found in templates(part)]


def test_a_step_that_is_not_understood_is_refused(rehearse):
    with pytest.raises(rehearse.ContainerfileError, match="ADD"):
        rehearse.parse("FROM debian\nADD x y\n")
    with pytest.raises(rehearse.ContainerfileError, match="FROM, then"):
        rehearse.parse("RUN true\n")
    stages = rehearse.parse("# comment\nFROM a AS b\nRUN one \\\n    && two\nFROM c\nENV X=1 \\\n    Y=2\n")
    assert [(stage.name, stage.base, stage.steps) for stage in stages] == [
        ("b", "a", [("RUN", "one && two")]),
        ("1", "c", [("ENV", "X=1 Y=2")]),
    ]
    assert stages[1].variables == {"X": "1", "Y": "2"}


IMAGE_GB = 25
SHORT_SWEEP = "python -m mcl_ray.sweep digits trials=2 epochs=1 confirm.configurations=0 baseline={}"
CERTIFICATES = ["/etc/ssl/certs", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/etc/pip.conf"]


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize(("kind", "command"), [("api", "python -m mcl_ray.serve --version"), ("train", SHORT_SWEEP)])
def test_an_image_is_made_runs_without_rights_and_is_healthy(kind, command, tmp_path):
    """Its steps are performed, and what it runs has a read-only root; the packages come from the package index."""
    missing = [name for name in ("mmdebstrap", "bwrap") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root, mmdebstrap and bubblewrap; missing here: {', '.join(missing) or 'root'}")
    if shutil.disk_usage(tmp_path).free < IMAGE_GB * 1e9:
        pytest.skip(f"needs {IMAGE_GB} GB of free disk")
    seen = [word for path in CERTIFICATES for word in ("--see", path)]
    words = [sys.executable, IMAGES / "rehearse.py", IMAGES / f"Containerfile.{kind}", tmp_path, *seen]
    try:
        for more in (["--", *command.split()], ["--health"], ["--", "sh", "-c", "id -u && ! touch /opt/x && touch x"]):
            done = subprocess.run([*words, *more], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout == "10001\n"
    finally:
        shutil.rmtree(tmp_path / f"Containerfile.{kind}", ignore_errors=True)


def test_the_readme_builds_what_the_manifests_name():
    built = set(re.findall(r"--tag ([\w:.-]+)", README))
    assert built == {f"mcl-ray-{kind}:{__version__}" for kind in ("api", "train")}
    assert {file.name for file in FILES} == set(re.findall(r"\]\((Containerfile\.\w+)\)", README))
