"""Performs the steps of a Containerfile without a container engine, and runs a command in the result.

It needs Debian's packages mmdebstrap and bubblewrap, and root. The base image is replaced by a root file system of the
same Debian with its own Python 3.11. So this shows that the steps work, that the image holds what its commands need,
and that they run without rights and with a read-only root; it shows nothing of the base image itself.

    python deploy/images/rehearse.py deploy/images/Containerfile.api /tmp/images -- python -m mcl_ray.serve --version
    python deploy/images/rehearse.py deploy/images/Containerfile.api /tmp/images --health

The command has processes and a network of its own, as in a container. With --health it is that of the image, and ends
once the image's health check has succeeded.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

BASE = "docker.io/library/python:3.11-slim-bookworm"
PACKAGES = "bash,ca-certificates,python3,python3-venv"
ROOT = Path(__file__).resolve().parents[2]
STEPS = ("RUN", "COPY", "ENV", "WORKDIR", "USER", "EXPOSE", "HEALTHCHECK", "CMD")
WRITABLE = ("/tmp", "/scratch")  # noqa: S108  # inside of the image
PASSED_ON = re.compile(r"PIP_\w+|(https?|no)_proxy", re.IGNORECASE)


class ContainerfileError(Exception):
    """A Containerfile has a step that is not understood."""


@dataclass
class Stage:
    """A stage of a Containerfile: its steps in order, as instruction and argument."""

    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, instruction: str) -> str | None:
        """Return the argument of the last step of a kind."""
        found = [argument for name, argument in self.steps if name == instruction]
        return found[-1] if found else None

    @property
    def variables(self) -> dict[str, str]:
        """Return the variables that ENV sets."""
        words = [word for name, argument in self.steps if name == "ENV" for word in shlex.split(argument)]
        return dict(word.split("=", 1) for word in words)

    @property
    def command(self) -> list[str]:
        """Return the words of CMD."""
        words: list[str] = json.loads(self.last("CMD") or "[]")
        return words

    @property
    def health(self) -> list[str]:
        """Return a command that runs that of the image until its health check succeeds.

        As an engine does, it starts what has ended again; after the fourth time it ends with 1.
        """
        check: list[str] = json.loads((self.last("HEALTHCHECK") or "CMD []").partition("CMD ")[2])
        loop = "start() { tries=$((tries + 1)); [ $tries -lt 5 ] || exit 1; COMMAND & }; start; "
        loop += "until CHECK 2>/dev/null; do kill -0 $! 2>/dev/null || start; sleep 1; done"
        return ["sh", "-c", loop.replace("COMMAND", shlex.join(self.command)).replace("CHECK", shlex.join(check))]


def parse(text: str) -> list[Stage]:
    """Parse a Containerfile into its stages.

    Raises:
        ContainerfileError: an instruction is not one of the few that are understood, or does not follow a FROM.
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    stages: list[Stage] = []
    for line in filter(str.strip, joined.splitlines()):
        instruction, _, argument = line.partition(" ")
        if instruction == "FROM":
            base, _, name = argument.partition(" AS ")
            stages.append(Stage(name or str(len(stages)), base))
        elif instruction in STEPS and stages:
            stages[-1].steps.append((instruction, argument.strip()))
        else:
            raise ContainerfileError(f"a step must be FROM, then one of {', '.join(STEPS)}, but got {line!r}")
    return stages


def perform(stages: Sequence[Stage], folder: Path, seen: Sequence[str]) -> Path:
    """Perform all stages, and return the root file system of the last one.

    Args:
        stages: Stages, each from the base image.
        folder: Folder for the root file systems.
        seen: Files and folders of this machine that steps may read, such as its certificates.
    """
    base = folder / "base"
    if not base.exists():
        _make_base(base)
    roots: dict[str, Path] = {}
    for stage in stages:
        if stage.base != BASE:
            raise ContainerfileError(f"a stage must begin with {BASE}, but got {stage.base}")
        roots[stage.name] = root = folder / f"stage-{stage.name}"
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run(["cp", "--archive", "--reflink=auto", base, root], check=True)
        _perform(stage, root, roots, seen)
    return root


def _make_base(base: Path) -> None:
    subprocess.run(["mmdebstrap", "--variant=apt", f"--include={PACKAGES}", "bookworm", base], check=True)
    for name in ("python", "python3"):
        (base / "usr/local/bin" / name).symlink_to("/usr/bin/python3")


def _perform(stage: Stage, root: Path, roots: dict[str, Path], seen: Sequence[str]) -> None:
    variables, directory = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, "/"
    for instruction, argument in stage.steps:
        if instruction == "ENV":
            variables |= dict(word.split("=", 1) for word in shlex.split(argument))
        elif instruction == "WORKDIR":
            directory = argument
            (root / argument.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif instruction == "COPY":
            _copy(argument, root / directory.lstrip("/"), root, roots)
        elif instruction == "RUN":
            print(f"{stage.name}: {argument[:110]}", file=sys.stderr)
            given = variables | {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
            sandbox = [
                "bwrap",
                "--bind",
                str(root),
                "/",
                "--chdir",
                directory,
                *_sandbox(given, [*seen, "/etc/resolv.conf"]),
            ]
            subprocess.run([*sandbox, "/bin/sh", "-ec", argument], check=True)


def _copy(argument: str, directory: Path, root: Path, roots: dict[str, Path]) -> None:
    words = shlex.split(argument)
    source = ROOT
    if words[0].startswith("--from="):
        source = roots[words.pop(0).removeprefix("--from=")]
    *names, target = words
    place = root / target.lstrip("/") if target.startswith("/") else directory / target
    for name in names:
        found = source / name.lstrip("/")
        if found.is_dir():
            skip = None if source is not ROOT else shutil.ignore_patterns("__pycache__")
            shutil.copytree(found, place, symlinks=True, dirs_exist_ok=True, ignore=skip)
        else:
            shutil.copy2(found, place)


def _sandbox(variables: dict[str, str], seen: Sequence[str]) -> list[str]:
    words = ["--dev", "/dev", "--proc", "/proc", "--die-with-parent", "--clearenv"]
    for path in seen:
        words += ["--ro-bind-try", path, path]
    for name, value in variables.items():
        words += ["--setenv", name, value]
    return words


def run(stage: Stage, root: Path, words: Sequence[str]) -> int:
    """Run a command in a finished root file system as its user, with a read-only root; return its exit code."""
    user, _, group = (stage.last("USER") or "").partition(":")
    sandbox = ["bwrap", "--ro-bind", str(root), "/", *_sandbox(stage.variables, [])]
    for path in WRITABLE:
        sandbox += ["--tmpfs", path]
    sandbox += ["--unshare-user", "--unshare-pid", "--unshare-net", "--uid", user, "--gid", group]
    sandbox += ["--chdir", stage.last("WORKDIR") or "/"]
    return subprocess.run([*sandbox, *words], check=False).returncode


def main() -> int:
    """Perform a Containerfile, and run a command, or that of the image."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("containerfile", type=Path)
    parser.add_argument("folder", type=Path, help="folder for the root file systems; a finished one is used again")
    parser.add_argument("--see", action="append", default=[], help="path of this machine that steps may read")
    parser.add_argument("--health", action="store_true", help="run the command of the image until it is healthy")
    parser.epilog = "After --, the command to run; if not given, that of the image."
    own, _, words = (" ".join(map(shlex.quote, sys.argv[1:])) + " ").partition(" -- ")
    given = parser.parse_args(shlex.split(own))
    stages = parse(given.containerfile.read_text())
    folder = given.folder / given.containerfile.name
    root = folder / f"stage-{stages[-1].name}"
    if not (folder / "finished").exists():
        folder.mkdir(parents=True, exist_ok=True)
        root = perform(stages, folder, given.see)
        (folder / "finished").touch()
    own_command = stages[-1].health if given.health else stages[-1].command
    return run(stages[-1], root, shlex.split(words) or own_command)


if __name__ == "__main__":
    sys.exit(main())
