"""Commands run as processes, with what they print, import and write."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support import forked

HANGS_AFTER_S = 900
"""Time after which a process counts as hanging; far longer than any needs on an overloaded machine."""
SLOW_IMPORTS = {"matplotlib", "optuna", "pandas", "plotly", "pyarrow", "ray", "sklearn", "torch", "torchvision"}
TRAINING_IMPORTS = {"optuna", "ray", "torch", "torchvision"}
"""Packages that take seconds to import, and that no error before training may import."""
_IMPORT = "import time:"


@dataclass(frozen=True)
class CommandResult:
    """The outcome of a command's process."""

    code: int
    stdout: str
    stderr: str
    modules: set[str]
    """The top-level packages that were imported."""


def command(*words: str) -> list[str]:
    """`train digits` is `python -m mcl_ray.train digits`; `mcl …` is the console script."""
    script = str(Path(sys.executable).with_name("mcl"))
    head = [script] if words[0] == "mcl" else ["-m", f"mcl_ray.{words[0]}"]
    return [sys.executable, *head, *words[1:]]


def surroundings() -> dict[str, str]:
    """Return this process's environment without the variables that change a terminal's look."""
    quiet = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "COLUMNS")}
    return quiet | {"OMP_NUM_THREADS": "1"}


def run_command(cwd: Path, *words: str) -> CommandResult:
    """Run a command to its end; the interpreter itself lists what is imported."""
    return run(cwd, _listing_imports(*words))


def run_forked(cwd: Path, *words: str, modules: tuple[str, ...] = forked.COMMANDS) -> CommandResult:
    """Do the same in a process of `tests.support.forked`: what it had imported before counts as imported by it."""
    arguments = _listing_imports(*words)
    return _result(forked.run(arguments, modules, cwd=cwd, env=surroundings(), timeout=HANGS_AFTER_S))


def _listing_imports(*words: str) -> list[str]:
    python, *rest = command(*words)
    return [python, "-X", "importtime", *rest]


def run(cwd: Path, arguments: list[str]) -> CommandResult:
    """Run an interpreter that was started with `-X importtime`."""
    return _result(
        subprocess.run(
            arguments, cwd=cwd, env=surroundings(), capture_output=True, text=True, timeout=HANGS_AFTER_S, check=False
        )
    )


def _result(done: subprocess.CompletedProcess[str]) -> CommandResult:
    lines = done.stderr.splitlines(keepends=True)
    imports = [line.rpartition("|")[2].strip() for line in lines if line.startswith(_IMPORT)]
    assert imports, f"the interpreter lists what it imports, but only said {done.stderr!r}"
    said = "".join(line for line in lines if not line.startswith(_IMPORT))
    return CommandResult(done.returncode, done.stdout, said, {name.partition(".")[0] for name in imports})


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Return path → content of every file below a folder; None for folders."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(cwd: Path, *words: str) -> str:
    """Return the error line of a command that is run in `cwd`; check that it is all that happened."""
    before = snapshot(cwd)
    seen = run_forked(cwd, *words)
    assert seen.code == 2, seen.stderr
    assert seen.stdout == ""
    assert seen.stderr.startswith("error: ")
    assert seen.stderr.count("\n") == 1
    assert seen.modules.isdisjoint(TRAINING_IMPORTS)
    assert snapshot(cwd) == before
    return seen.stderr
