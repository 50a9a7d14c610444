"""What the README says is so: its commands run, and it names all there is."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mcl_ray.catalog import NETWORKS
from mcl_ray.recipes import RECIPES
from searches.catalog import SEARCHES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if "mcl_ray.train" in line or "mcl_ray.sweep" in line
]


def test_it_names_every_recipe_search_and_network():
    words = set(re.findall(r"\w+", README))
    assert {*RECIPES, *SEARCHES, *NETWORKS} <= words


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_is_understood(command, tmp_path):
    """Run dry; what goes on with an earlier run complains of nothing but that there is none."""
    arguments = [*command[command.index("-m") + 1 :], "--results", str(tmp_path)]
    resumes = "--resume" in arguments
    if not resumes and "--dry-run" not in arguments:
        arguments.append("--dry-run")
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == (2 if resumes else 0), done.stderr
    assert not resumes or "that was begun can be resumed" in done.stderr
    assert not list(tmp_path.iterdir())


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_files_that_are_named_exist(page):
    named = re.findall(
        r"`((?:mcl_ray|searches|trainables|benchmarks|tests|training|losses|methods|results)/[\w/.]+)`",
        (ROOT / page).read_text(),
    )
    assert named
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "mcl_ray" / name).exists(), name
