"""What the README says is so: its commands run, and it names all there is."""

import re
import shlex
from pathlib import Path

import pytest

from mcl_ray.cli import app, export, sweep, train
from mcl_ray.config.recipes import RECIPES
from mcl_ray.config.registry import NETWORKS
from searches.spec import suite_registry
from searches.spec.search_registry import SEARCHES
from searches.spec.suite_registry import SUITES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("deploy/**/*.md")),
]
COMMANDS = {
    tuple(shlex.split(line, comments=True))
    for page in PAGES
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    for line in block.splitlines()
    if re.search(r"mcl_ray\.(train|sweep|export)\b", line)
}
PROGRAMS = {
    "mcl_ray.train": app.program(train.train),
    "mcl_ray.sweep": sweep.program("mcl_ray.sweep"),
    "mcl_ray.export": app.program(export.export),
}
GO_ON = {"--resume", "--from", "extend", "retry"}


def test_it_names_every_recipe_search_suite_and_network():
    words = set(re.findall(r"\w+", README))
    assert {*RECIPES, *SEARCHES, *SUITES, *NETWORKS} <= words


@pytest.mark.parametrize("command", sorted(COMMANDS), ids=" ".join)
def test_every_command_is_understood(command, tmp_path, monkeypatch, capsys):
    """Run dry; what goes on with an earlier run complains of nothing but that there is none."""
    monkeypatch.chdir(ROOT)
    door, *words = command[command.index("-m") + 1 :]
    if "--results" in words:
        words[words.index("--results") + 1] = str(tmp_path)
    else:
        words += ["--results", str(tmp_path)]
    if GO_ON & {*words} or door == "mcl_ray.export":
        with pytest.raises(SystemExit) as left, app.exit_codes():
            PROGRAMS[door](words, exit_on_error=False, print_error=False)
        assert left.value.code == 2
        told = capsys.readouterr().err
        assert "was begun" in told or "holds none" in told or "there is neither" in told
    else:
        PROGRAMS[door]([*words, *{"--dry-run"} - {*words}], exit_on_error=False, print_error=False)
    assert not list(tmp_path.iterdir())


def test_every_suite_file_is_a_suite(tmp_path):
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "searching.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        (tmp_path / "suite.yaml").write_text(block)
        assert suite_registry.load(str(tmp_path / "suite.yaml")).trials == 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_files_that_are_named_exist(page):
    named = re.findall(
        r"`((?:mcl_ray|searches|trainables|benchmarks|tests|training|losses|methods|results)/[\w/.]+)`",
        (ROOT / page).read_text(),
    )
    assert named
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "mcl_ray" / name).exists(), name
