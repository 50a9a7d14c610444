"""Tests that the documentation is complete and true: it names everything, its commands parse, its examples run."""

import contextlib
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import fields
from functools import partial
from pathlib import Path

import pytest
from cyclopts import MissingArgumentError

import mcl_ray
from api.app import create_app
from api.monitoring import REGISTRY
from api.settings import Settings
from mcl_ray.callbacks import RunCallback, SweepCallback
from mcl_ray.cli import app, export, main, serve, sweep, train
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.config.overrides import field_paths
from mcl_ray.config.recipes import RECIPES
from mcl_ray.config.registry import NETWORKS
from mcl_ray.config.spec import RunSpec
from mcl_ray.results.sweep_writer import SweepWriter
from mcl_ray.training import timing
from searches.spec import search_registry, suite_registry
from searches.spec.search_registry import SEARCHES
from searches.spec.suite import SuiteSpec
from searches.spec.suite_registry import SUITES
from searches.spec.sweep import SweepSpec
from tests.support import forked
from tests.support.commands import surroundings
from trainables.prometheus import GAUGES, RUN_TAGS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
TRAINING, SEARCHING, PYTHON, SERVICE, BENCHMARKS = (
    (ROOT / "docs" / f"{page}.md").read_text() for page in ("training", "searching", "python", "service", "benchmarks")
)
MONITORING = (ROOT / "deploy" / "monitoring" / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
MOST_LINES_OF_README = 150
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("deploy/**/*.md")),
]
START_READING = {
    "the loss": "mcl_ray/losses/terms.py",
    "the training loop": "mcl_ray/training/loop.py",
    "the Ray Tune adapter": "searches/tune/tuner.py",
    "the Ray Train adapter": "trainables/torch_trainer.py",
}
COMMANDS = {
    tuple(shlex.split(line, comments=True))
    for page in PAGES
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    for line in block.splitlines()
    if re.search(r"mcl_ray\.(train|sweep|export)\b", line)
}
CODE = [
    line
    for page in PAGES
    for block in re.findall(r"```(?:sh|bash)\n(.*?)```", page.read_text(), re.DOTALL)
    for line in block.split("\n")
]
IN_SENTENCES = [text for page in PAGES for text in re.findall(r"`([^`\n]+)`", page.read_text())]
MENTIONED, ABBREVIATED = (
    {
        tuple(shlex.split(text.partition(" > ")[0].rstrip("\\"), comments=True))
        for text in texts
        if re.match(r"(python -m mcl_ray\.|mcl )[a-z]", text)
    }
    for texts in (CODE, IN_SENTENCES)
)
"""Commands in blocks, and those inside of a sentence, which may lack arguments."""
PROGRAMS = {
    "mcl_ray.train": app.program(train.train),
    "mcl_ray.sweep": sweep.program("mcl_ray.sweep"),
    "mcl_ray.export": app.program(export.export),
}
CONTINUES = {"--resume", "--from", "extend", "retry"}
"""Words of a command that continues with the results of an earlier one."""
EXAMPLES = {
    page.name: blocks
    for page in PAGES
    if page.name not in ("service.md", "plugins.md")
    and (blocks := re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
}
"""Python examples of each page; tests/api/test_service_docs.py runs those that need a server, and
tests/test_register.py trains with parts like those of plugins.md."""
ON_ONE_RAY = """
import runpy, sys
from mcl_ray.config.execution import ExecutionOptions
from trainables.cluster.connect import connect

with connect(ExecutionOptions(address=sys.argv[1])):
    runpy.run_path("examples.py", run_name="__main__")
"""
"""Runs examples in a process that has joined a Ray, so that not each sweep starts its own."""
HANGS_AFTER_S = 1800


def rows_of(text):
    """First cell, in backticks → the other cells, of every table row."""
    cells = (row.strip("| ").split(" | ") for row in text.splitlines() if row.startswith("| `"))
    return {first.strip("`"): rest for first, *rest in cells}


def test_every_recipe_and_network_is_documented():
    assert RECIPES.keys() <= rows_of(TRAINING).keys()
    (section,) = re.findall(r"## Networks\n(.*?)\n##", TRAINING, re.DOTALL)
    assert set(NETWORKS) <= set(re.findall(r"\w+", section))


@pytest.mark.parametrize(("command", "known"), [("searches", SEARCHES), ("suites", SUITES)])
def test_every_search_and_suite_is_documented(command, known):
    (paragraph,) = re.findall(rf"Known by name \(`mcl {command}`\):(.*?)\n\n", SEARCHING, re.DOTALL)
    assert set(known) <= set(re.findall(r"`(\w+)`", paragraph))


@pytest.mark.parametrize("model", [RunSpec, SweepSpec, SuiteSpec])
def test_every_field_says_what_it_means(model):
    """`mcl fields` and the reference print it."""
    described = {path: field.description for path, field in field_paths(model)}
    assert [path for path, text in described.items() if not (text or "").strip()] == []


def words_of(program, before=()):
    """The words of every command of a program, and of those below it."""
    for name in program:
        if not name.startswith("-"):
            yield (*before, name)
            yield from words_of(program[name], (*before, name))


@pytest.mark.parametrize("words", [*words_of(main.program())], ids=" ".join)
def test_every_command_is_on_a_page(words):
    """With at least one page that names it, beyond the reference that is made from its help."""
    named = {
        command[1:] if command[0] == "mcl" else (command[2].removeprefix("mcl_ray."), *command[3:])
        for command in MENTIONED | ABBREVIATED
    }
    assert words in {command[: len(words)] for command in named}


def test_every_setting_of_the_service_is_documented_and_an_option(capsys):
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", SERVICE, re.MULTILINE))
    assert rows == {name: " ".join(field.description.split()) for name, field in Settings.model_fields.items()}
    serve.program("serve")(["--help"], exit_on_error=False)
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert {f"--{name.replace('_', '-')}" for name in rows} <= options


def test_every_endpoint_is_documented():
    paths = create_app(Settings()).openapi()["paths"]
    known = [f"`{method.upper()} {path.removeprefix('/api/v1')}`" for path in paths for method in paths[path]]
    assert [endpoint for endpoint in known if endpoint not in SERVICE] == []


def test_every_metric_is_documented_with_its_tags():
    """Those of runs with tags and description; tests/api/test_metrics.py compares the labels of the service's."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| (.+) \|$", MONITORING, re.MULTILINE)
    tags_and_meanings = {name: (tuple(re.findall(r"`(\w+)`", tags)), meaning) for name, tags, meaning in rows}
    runs = {name: row for name, row in tags_and_meanings.items() if name.startswith("ray_")}
    assert runs == {f"ray_{name}": (kind.tags, kind.description) for name, kind in GAUGES.items()}
    assert set(RUN_TAGS) <= set(re.findall(r"`(\w+)`", MONITORING))
    service = {name.removesuffix("_total") for name in tags_and_meanings if name.startswith("mcl_")}
    assert service == {family.name for family in REGISTRY.collect()}


def test_every_benchmark_is_documented():
    scripts = {
        path.parent.name if path.name == "__main__.py" else path.stem
        for path in (ROOT / "benchmarks").rglob("*.py")
        if 'if __name__ == "__main__"' in path.read_text()
    }
    documented = {name.removeprefix("python -m benchmarks.") for name in rows_of(BENCHMARKS)}
    assert documented == scripts - {"bare_service"}, "all but the application that the service is compared with"


def test_readme_is_short_and_leads_to_every_page():
    assert len(README.splitlines()) < MOST_LINES_OF_README
    pages = {page.relative_to(ROOT).as_posix() for page in PAGES} - {"README.md", "deploy/monitoring/README.md"}
    assert pages <= set(re.findall(r"\]\(([\w./-]+)\)", README))


def test_readme_leads_to_the_loss_the_loop_and_the_adapters():
    table = dict(re.findall(r"^\| (the [^:|]+?)(?::[^|]*)? \| \[`[^`]+`\]\(([^)]+)\) \|$", README, re.MULTILINE))
    assert table == START_READING
    for file in START_READING.values():
        assert (ROOT / file).is_file(), file


def test_contributing_shows_where_to_begin_and_what_comes_next():
    """The four files of README, each with a name that it defines, and lines of files that import one another."""
    (tour,) = re.findall(r"## A tour\n(.*?)\n##", CONTRIBUTING, re.DOTALL)
    rows = re.findall(r"^\| (.*?) \| `([\w/.]+)` \| `(\w+)` \| `([\w/.]+)`: .* \|$", tour, re.MULTILINE)
    assert START_READING.items() <= {what: file for what, file, _, _ in rows}.items()
    for _, file, name, then in rows:
        assert re.search(rf"^(def|class) {name}\b", (ROOT / file).read_text(), re.MULTILINE), (file, name)
        assert (ROOT / then).is_file(), then
    pairs = re.findall(r"`([\w/]+)\.py`(?= →\s+`([\w/]+)\.py`)", tour)
    assert len(pairs) > 15
    for one, other in pairs:
        package, _, module = other.replace("/", ".").rpartition(".")
        imports = rf"\b{package}\.{module}\b|from {package} import .*\b{module}\b"
        assert re.search(imports, (ROOT / f"{one}.py").read_text()), (one, other)


def test_the_source_tree_follows_the_layers():
    (tree,) = re.findall(r"```\n(mcl_ray/.*?)```", CONTRIBUTING, re.DOTALL)
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    place = {name: number for number, line in enumerate(layers) for name in re.findall(r"[\w.]+", line)}
    package, places = "", []
    for line in tree.splitlines():
        if header := re.match(r"(\w+)/", line):
            package = header[1]
        name = f"{package}.{entry[1]}" if (entry := re.match(r"  (\w+)", line)) else package
        if name in place and (entry or header):
            places.append((place[name], name))
    assert len(places) > 40
    assert [name for _, name in places] == [name for _, name in sorted(places, key=lambda found: found[0])]


def rule_of(module, words):
    """The rule that a command breaks if there is nothing that it could continue with."""
    if module == "mcl_ray.export":
        return "a run is named by "
    if module == "mcl_ray.sweep":
        return "a sweep is named by its id"
    if "--from" in words:
        return "`--from` names a run or a checkpoint, but neither "
    return "only a run that was started can be resumed, but "


@pytest.mark.parametrize("command", sorted(COMMANDS), ids=" ".join)
def test_every_command_is_understood(command, tmp_path, monkeypatch, capsys):
    """Run dry; a command that continues with an earlier run only reports that there is none."""
    monkeypatch.setattr(timing, "TIMED_MULTIPLY_ADDS", 1e7)  # the wall time that it prints is not looked at
    monkeypatch.chdir(ROOT)
    module, *words = command[command.index("-m") + 1 :]
    if command[0] == "torchrun":
        workers = command[command.index("--nproc-per-node") + 1]
        for name, value in {"WORLD_SIZE": workers, "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": workers}.items():
            monkeypatch.setenv(name, value)
    if "--results" in words:
        words[words.index("--results") + 1] = str(tmp_path)
    else:
        words += ["--results", str(tmp_path)]
    if CONTINUES & {*words} or module == "mcl_ray.export":
        with pytest.raises(SystemExit) as exit_, app.exit_codes():
            PROGRAMS[module](words, exit_on_error=False, print_error=False)
        assert exit_.value.code == 2
        assert capsys.readouterr().err.startswith(f"error: {rule_of(module, words)}")
    else:
        PROGRAMS[module]([*words, *{"--dry-run"} - {*words}], exit_on_error=False, print_error=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", sorted((MENTIONED | ABBREVIATED) - COMMANDS), ids=" ".join)
def test_every_mentioned_command_exists_with_its_options(command):
    words = command[1:] if command[0] == "mcl" else (command[2].removeprefix("mcl_ray."), *command[3:])
    incomplete = () if command in MENTIONED else (MissingArgumentError,)
    with contextlib.suppress(*incomplete):
        main.program().parse_args(words, exit_on_error=False, print_error=False)


def test_readme_exports_the_search_that_it_began_with(tmp_path):
    """The id of `sweep digits` is the same in each results folder, as long as its spec is."""
    spec = search_registry.load("digits")
    with SweepWriter.create(tmp_path, "digits", spec, objective="", mode="max", trials_planned=1) as writer:
        assert f"mcl_ray.export results/sweeps/{writer.sweep_id} " in README


def test_every_suite_file_is_a_suite(tmp_path):
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "searching.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        (tmp_path / "suite.yaml").write_text(block)
        assert suite_registry.load(str(tmp_path / "suite.yaml")).trials == 3


def anchors_of(page):
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors_of(file), target


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_files_that_are_named_exist(page):
    named = re.findall(
        r"`((?:mcl_ray|searches|trainables|benchmarks|tests|training|losses|methods|results|analysis)/[\w/.]+)`",
        (ROOT / page).read_text(),
    )
    assert named
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "mcl_ray" / name).exists(), name


def test_the_source_tree_names_every_module():
    """Every folder and every module that has no folder of its own below the packages' roots is in CONTRIBUTING."""
    (tree,) = re.findall(r"```\n(mcl_ray/.*?)```", CONTRIBUTING, re.DOTALL)
    words = set(re.findall(r"[\w.]+/?", tree))
    for package in (ROOT / "mcl_ray", ROOT / "searches", ROOT / "trainables"):
        for entry in package.iterdir():
            name = entry.name + ("/" if entry.is_dir() else "")
            if not name.startswith("__") and name != "py.typed":
                assert name in words or entry.stem in words, entry.relative_to(ROOT)


def test_every_module_in_the_source_tree_exists():
    (tree,) = re.findall(r"```\n(mcl_ray/.*?)```", CONTRIBUTING, re.DOTALL)
    folders = ("mcl_ray", "searches", "trainables", "api", "tests")
    modules = {path.name for folder in folders for path in (ROOT / folder).rglob("*.py")}
    for name in re.findall(r"\b\w+\.py\b", tree):
        assert name in modules, name


def test_every_public_name_is_documented():
    quoted = " ".join(re.findall(r"`([^`\n]+)`", PYTHON))
    assert set(mcl_ray.__all__) <= set(re.findall(r"\w+", quoted))


@pytest.mark.parametrize("callback", [RunCallback, SweepCallback])
def test_every_event_is_documented_with_its_time_and_its_process(callback):
    (section,) = re.findall(rf"### Events of a {callback.__name__}\n(.*?)\n##", PYTHON, re.DOTALL)
    rows = {name.partition("(")[0]: cells for name, cells in rows_of(section).items()}
    assert set(rows) == {name for name in vars(callback) if name.startswith("on_")}
    assert all(when and process for when, process in rows.values())


def test_every_option_is_documented():
    (section,) = re.findall(r"## Options\n(.*?)\n##", PYTHON, re.DOTALL)
    rows = rows_of(section)
    assert {*(field.name for field in fields(ExecutionOptions)), "download", "threads", "resume"} == set(rows)


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(EXAMPLES))
def test_every_python_example_runs(page, shared_ray, tmp_path):
    """Run a page's examples in order, as one program, in an empty folder; the README's as they are."""
    (tmp_path / "examples.py").write_text("\n".join(EXAMPLES[page]))
    variables = surroundings() | shared_ray.variables
    if page == "README.md":
        arguments, variables = ["examples.py"], variables | {"PYTHONPATH": str(ROOT)}
        run = partial(subprocess.run, capture_output=True, text=True, check=False)
    else:
        (tmp_path / "on_one_ray.py").write_text(ON_ONE_RAY)
        arguments, run = ["on_one_ray.py", shared_ray.address], partial(forked.run, modules=forked.ON_RAY)
    done = run([sys.executable, *arguments], cwd=tmp_path, env=variables, timeout=HANGS_AFTER_S)
    assert done.returncode == 0, done.stdout + done.stderr
