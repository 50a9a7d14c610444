"""The site of the documentation: it builds strictly, loads nothing from elsewhere, and its reference is complete."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import mcl_ray
from api.app import create_app
from api.monitoring import REGISTRY
from api.settings import Settings
from mcl_ray import errors
from mcl_ray.cli.main import COMMANDS
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.config.overrides import field_paths, parse
from mcl_ray.config.recipes import RECIPES
from mcl_ray.config.spec import RunSpec
from searches.spec.search_registry import SEARCHES
from searches.spec.suite import SuiteSpec
from searches.spec.suite_registry import SUITES
from searches.spec.sweep import SweepSpec
from trainables.prometheus import GAUGES

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "docs_site"
HANGS_AFTER_S = 1800
PUBLISHED_FLAGS = {
    "`main_cifar.py`, `main_imagenet.py`": """
        --data --dataset --arch --init-lr --weight-decay --lr-type --milestones --epochs --batch-size --num-workers
        --gpu-id --manual_seed --resume --resume-checkpoint --evaluate --evaluate-checkpoint --number-net
        --logit-distill --checkpoint-dir --kd_T --tau --alpha --gamma --beta --lam --rep-dim --feat-dim --pos_k --neg_k
        --nce_m""",
    "`main_moco_mcl.py`, `main_lincls.py`": """
        --data -a --arch -j --workers --epochs --start-epoch -b --batch-size --lr --schedule --momentum --wd
        --print-freq --resume --evaluate --world-size --rank --dist-url --dist-backend --seed --gpu --gpu-ids
        --multiprocessing-distributed --number-net --moco-dim --moco-k --moco-m --moco-t --checkpoint --mlp --aug-plus
        --cos --pretrained""",
}
"""Section of docs/migrating.md → the flags of these scripts; not every short form."""
SUBCOMMANDS = {
    *("serve create-key", "serve revoke-key", "serve migrate", "sweep table", "sweep extend", "sweep retry"),
    *("runs list", "runs compare", "runs tag", "runs delete"),
}


@pytest.fixture(scope="module")
def reference():
    """The pages that are made from the code, by name."""
    spec = importlib.util.spec_from_file_location("reference", SITE / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: function() for name, function in module.PAGES.items()}


def build(checkout, folder):
    """Build the site of a checkout, without a network."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", checkout / "docs_site/mkdocs.yml", "-d", folder],
        env=os.environ
        | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}", "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER_S,
        check=False,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_site_has_every_page(built):
    pages = {path.relative_to(built).as_posix() for path in built.rglob("*.html")}
    own = {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")}
    own |= {f"deploy/{path.parent.name}.html" for path in (ROOT / "deploy").glob("*/README.md")}
    assert own | {"index.html", "contributing.html", "changelog.html", "security.html", "404.html"} <= pages
    assert len([page for page in pages if page.startswith("reference/")]) == 8
    navigated = set(re.findall(r"[\w/-]+\.md", (SITE / "mkdocs.yml").read_text()))
    assert navigated == {page.replace(".html", ".md") for page in pages - {"404.html"}}


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(built):
    for path in built.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*\ssrc="([^"]+)"|<link[^>]*\shref="([^"]+)"', path.read_text())
        assert [one for pair in loaded for one in pair if re.match(r"(https?:)?//", one)] == [], path


@pytest.mark.slow
def test_the_pictures_of_the_readme_are_on_the_first_page(built):
    shown = re.findall(r'<img[^>]*\ssrc="(pictures/[^"]+)"', (built / "index.html").read_text())
    assert shown == ["pictures/page.png", "pictures/report.png"]
    assert all((built / name).is_file() for name in shown)


@pytest.mark.slow
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path):
    for name in ("docs", "docs_site", "deploy", "api"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"):
        shutil.copy(ROOT / name, tmp_path)
    page = tmp_path / "docs" / "tutorial.md"
    page.write_text(page.read_text() + "\n[nowhere](no-such-page.md)\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert "no-such-page.md" in done.stderr


def test_every_field_is_in_the_reference(reference):
    rows = set(re.findall(r"^\| `([\w.]+)` \|", reference["fields"], re.MULTILINE))
    for model in (RunSpec, SweepSpec, SuiteSpec):
        assert {path for path, _ in field_paths(model) if model is RunSpec or not path.startswith("run.")} <= rows
    meanings = re.findall(r"^\| `[\w.]+` \| .* \| (.*) \|$", reference["fields"], re.MULTILINE)
    assert len(meanings) >= len(rows)
    assert all(meanings), "each field says what it means"


def test_what_is_known_by_name_is_in_the_reference(reference):
    assert re.findall(r"^\| `(\w+)` \| .+ \|$", reference["names"], re.MULTILINE) == [*RECIPES, *SEARCHES, *SUITES]


def test_every_command_is_in_the_reference(reference):
    titles = re.findall(r"^## mcl (.*)$", reference["commands"], re.MULTILINE)
    assert set(titles) == set(COMMANDS) | SUBCOMMANDS
    usages = re.findall(r"^Usage: mcl (.*)$", reference["commands"], re.MULTILINE)
    assert [usage[: len(title)] for usage, title in zip(usages, titles, strict=True)] == titles, (
        "each with its own help"
    )


def test_every_endpoint_is_in_the_reference(reference):
    titles = set(re.findall(r"^## ([A-Z]+ /\S*)$", reference["rest"], re.MULTILINE))
    paths = create_app(Settings()).openapi()["paths"]
    assert titles == {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


def test_every_setting_is_in_the_reference(reference):
    assert re.findall(r"^\| `(\w+)` \| `MCL_", reference["settings"], re.MULTILINE) == list(Settings.model_fields)


def test_every_public_name_is_in_the_reference(reference):
    titles = re.findall(r"^## (\w+)$", reference["python"], re.MULTILINE)
    assert titles == [name for name in mcl_ray.__all__ if name != "__version__"]
    members = set(re.findall(r"^### (\w+\.\w+)$", reference["python"], re.MULTILINE))
    assert {"CohortTrainer.fit", "CohortTuner.restore", "Run.export", "Sweep.ranking", "RunCallback.on_step"} <= members
    assert "```text\n\n```" not in reference["python"], "each of them is documented"


def test_every_metric_is_in_the_reference(reference):
    rows = set(re.findall(r"^\| `(\w+)` \|", reference["metrics"], re.MULTILINE))
    assert rows == {f"ray_{name}" for name in GAUGES} | {family.name for family in REGISTRY.collect()}


def test_every_error_is_in_the_reference(reference):
    rows = set(re.findall(r"^\| `(\w+)` \|", reference["errors"], re.MULTILINE))
    assert rows == set(re.findall(r"\w+Error", errors.__doc__))


def test_each_flag_of_the_published_scripts_names_what_there_is_here():
    page = (ROOT / "docs" / "migrating.md").read_text()
    paths = {path for path, _ in field_paths(RunSpec)} | {"networks"}
    options = {f"--{field.name.replace('_', '-')}" for field in fields(ExecutionOptions)} | {"--resume", "--from"}
    for heading, published in PUBLISHED_FLAGS.items():
        section = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
        rows = re.findall(r"^\| (`-.*?) \| (.*?) \| (.*?) ?\|$", section, re.MULTILINE)
        assert {flag for flags, _, _ in rows for flag in re.findall("`(.*?)`", flags)} == set(published.split())
        for flags, here, differs in rows:
            named = re.findall(r"`([^`]+)`", here)
            assert named or here == "none", flags
            for name in named:
                assert name in (options if name.startswith("--") else paths), flags
            parse(RunSpec, [word for words in re.findall(r"`(\w[^`]*=[^`]*)`", differs) for word in words.split()])


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path):
    """Its commands in order, as a user has them; the sweep that is exported is the one that was made."""
    page = (ROOT / "docs" / "tutorial.md").read_text()
    lines = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    assert len(lines) == 7
    script = "\n".join(lines).replace("results/sweeps/digits-1a2b3c4d5e-1", "results/sweeps/digits-*")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=HANGS_AFTER_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    (sweep,) = (tmp_path / "results" / "sweeps").iterdir()
    assert (sweep / "best.yaml").is_file()
    assert list(sweep.glob("runs/*/export/*/model.safetensors"))
    assert len(list((tmp_path / "results" / "runs").iterdir())) == 2
