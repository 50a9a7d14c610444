"""Rules for every source file: run no code from a file, a pickle or a shell; and modules that stay fast to import."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import SLOW_IMPORTS, run

ROOT = Path(__file__).parents[1]
UNPICKLER = "mcl_ray/data/unpickle.py"
PICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
CALLS = {
    *("eval", "exec", "compile", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.full_load_all", "yaml.unsafe_load", "yaml.unsafe_load_all"),
    *(f"{module}.{name}" for module in PICKLERS for name in ("load", "loads", "Unpickler", "open")),
}
"""Calls that run code given to them."""
LOADERS = {"Loader", "FullLoader", "UnsafeLoader", "CLoader", "CFullLoader", "CUnsafeLoader"}
"""Loaders of PyYAML that build more than plain data."""
EXEMPT = {
    UNPICKLER: {"pickle.Unpickler"},  # the one that builds nothing but plain data
    "tests/data/test_unpickle.py": {"os.system"},  # the call that a hostile pickle asks for, which is never made
    "tests/data/test_cifar.py": {"os.system"},
    "tests/searches/tune/test_callback.py": {"pickle.loads"},  # the copy that Tune makes of a callback
    "tests/support/workers.py": {
        "pickle.loads"
    },  # between the tests' own processes; torch's pipes share memory instead
}
SWITCHES = {"weights_only": True, "allow_pickle": False, "shell": False}
"""Arguments that have one safe value, which must be a literal."""


def sources() -> list[Path]:
    """Return every Python file of this checkout; its environments are hidden folders."""
    return [path for folder in ROOT.glob("[!.]*") if folder.is_dir() for path in folder.rglob("*.py")]


@functools.cache
def trees() -> dict[str, ast.Module]:
    """Return the syntax tree of every Python file, by its path in this checkout."""
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in sources()}


def faults(tree: ast.AST) -> Iterator[str]:
    """Yield each forbidden call and import of a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from names & CALLS
            yield from names & {f"yaml.{loader}" for loader in LOADERS}
        elif isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if name in CALLS or (name.startswith("yaml.") and node.attr in LOADERS):
                yield name
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in CALLS and isinstance(node.func, ast.Name):
                yield called
            given = {word.arg: word.value for word in node.keywords}
            for switch in SWITCHES.keys() & given.keys():
                if not isinstance(given[switch], ast.Constant) or given[switch].value is not SWITCHES[switch]:
                    yield f"{switch}={ast.unparse(given[switch])}"
            if called == "torch.load" and "weights_only" not in given:
                yield "torch.load without weights_only=True"


def picklers(tree: ast.AST) -> set[str]:
    """Return the modules that can unpickle and that a file imports."""
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    parts = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in plain | parts} & PICKLERS


def test_no_source_runs_code_that_it_is_given():
    assert {UNPICKLER, "searches/tune/tuner.py", "trainables/tune_function.py", "tests/test_safety.py"} <= set(trees())
    found = {name: set(faults(tree)) for name, tree in trees().items()}
    assert {name: what for name, what in found.items() if what} == EXEMPT


def test_only_the_unpickler_and_tests_import_pickle():
    users = {name for name, tree in trees().items() if picklers(tree)}
    assert {name for name in users if not name.startswith("tests/")} == {UNPICKLER}


@pytest.mark.parametrize(
    "source",
    [
        "eval(text)",
        "exec(text)",
        "os.system(text)",
        "pickle.loads(content)",
        "from pickle import loads",
        "read = pickle.load",
        "joblib.load(path)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.FullLoader)",
        "from yaml import UnsafeLoader",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=trusted)",
        "numpy.load(path, allow_pickle=True)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_a_forbidden_call_is_found(source):
    assert list(faults(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "cohort.eval()",
        "re.compile(pattern)",
        "torch.compile(step)",
        "loader.exec_module(module)",
        "pickle.dumps(value)",
        "yaml.safe_load(text)",
        "yaml12.load(text)",
        "torch.load(path, weights_only=True)",
        "subprocess.run(words, shell=False)",
    ],
)
def test_a_safe_call_is_not_reported(source):
    assert not list(faults(ast.parse(source)))


@pytest.mark.parametrize(
    ("module", "builds_specs"),
    [
        ("mcl_ray", False),
        ("mcl_ray.config.environment", False),
        ("mcl_ray.config.recipes", True),
        ("mcl_ray.config.spec", True),
        ("mcl_ray.cli.main", False),
        ("searches.spec.search_registry", True),
    ],
)
def test_specs_and_commands_are_fast_to_import(module, builds_specs, tmp_path):
    seen = run(tmp_path, [sys.executable, "-X", "importtime", "-W", "error", "-c", f"import {module}"])
    assert (seen.code, seen.stderr) == (0, "")
    assert module.partition(".")[0] in seen.modules
    assert ("pydantic" in seen.modules) is builds_specs
    assert seen.modules.isdisjoint(SLOW_IMPORTS | {"numpy"})
