"""Campaign on files: each is damaged at random places, and what reads it must say so, or give what it gave before.

Each damaged file is read in a process of its own, forked from one that has imported the program, so that an abort and
an endless loop are seen, too.
"""

from __future__ import annotations

import collections
import contextlib
import faulthandler
import importlib
import json
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.campaign.findings import Campaign, Findings

if TYPE_CHECKING:
    from benchmarks.campaign.files_kinds import Kind

HANGS_AFTER_S = 120
DAMAGES = ("bit", "bit", "bit", "bytes", "zeros", "end", "empty")
"""Damages, each as likely as it is often named: a bit is flipped, random bytes or zeros take the place of
others, its end or all of it is cut off."""


def run_on(name: str, mutations: int, seed: int, stop: threading.Event) -> Campaign:
    """Damage a file of a kind so many times, and count what reading it came to.

    Args:
        name: One of `files_kinds.KINDS`.
        mutations: Number of damages, each of the whole file as it was.
        seed: Source of the damages.
        stop: Ends the campaign before their number.
    """
    from benchmarks.campaign.files_kinds import KINDS

    kind, chance = KINDS[name], random.Random(f"{seed} {name}")  # noqa: S311  # repeatable
    findings, outcomes, started = Findings(), collections.Counter[str](), time.monotonic()
    whole = Path(tempfile.mkdtemp(prefix="mcl-campaign-"))
    try:
        right = _in_fork(whole / "made", kind, is_made=True)
        _import(right.pop("modules", []))
        assert "value" in right, f"{name} could not be made: {right}"
        for number in range(mutations):
            if stop.is_set():
                break
            damage = chance.choice(DAMAGES)
            found = _read_damaged(whole, kind, damage, chance)
            outcome, finding = judge(kind, right["value"], found)
            outcomes[outcome] += 1
            if finding is not None:
                getattr(findings, finding).append(f"{name}, {damage} {number}: {found}")
    finally:
        shutil.rmtree(whole)
    figures = {
        "file": name,
        "seed": seed,
        "mutations": outcomes.total(),
        "outcomes": dict(sorted(outcomes.items())),
        "seconds": round(time.monotonic() - started),
        **findings.figures,
    }
    return Campaign(findings, figures)


def judge(kind: Kind, right: object, found: dict[str, Any]) -> tuple[str, str | None]:
    """Return what reading a damaged file came to, and the kind of finding that this is, if any.

    Args:
        kind: The kind of file.
        right: What the whole file gives.
        found: What the damaged one gave: a value, an error, a traceback, or the signal that ended the process.
    """
    if "signal" in found:
        return ("hung", "stuck") if found["signal"] == signal.SIGALRM else ("aborted", "wrong")
    if "traceback" in found:
        return "traceback", "wrong"
    said = [found["error"]] if "error" in found else found["said"]
    start, _, end = kind.file.rpartition("/")[2].partition("*")
    paths = [word.rpartition("/") for line in said for word in line.split() if "/" in word]
    is_named = any(name.startswith(start) and end in name for _, _, name in paths)
    if "error" in found:
        return ("error", None) if is_named or not kind.is_named else ("error without the file's name", "wrong")
    if is_named:
        return "warning", None
    if found["value"] == right:
        return "without effect", None
    return ("read as another", None) if kind.may_differ else ("silently wrong", "wrong")


def _import(names: list[str]) -> None:
    """Import what reading imports, which each process would else do anew."""
    for module in names:
        with contextlib.suppress(Exception):
            importlib.import_module(module)


def _read_damaged(whole: Path, kind: Kind, damage: str, chance: random.Random) -> dict[str, Any]:
    made = whole / "made"  # of the same name, which records may have
    shutil.copytree(made, whole / "kept", symlinks=True)
    try:
        file = max(made.glob(kind.file))
        times = file.stat()
        file.write_bytes(damaged(file.read_bytes(), damage, chance))
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        return _in_fork(made, kind)
    finally:
        shutil.rmtree(made)
        shutil.copytree(whole / "kept", made, symlinks=True, copy_function=shutil.copy2)
        shutil.rmtree(whole / "kept")


def damaged(content: bytes, damage: str, chance: random.Random) -> bytes:
    """Return the content of a file with one damage at a random place."""
    place, length = chance.randrange(len(content)), chance.randint(1, 64)
    if damage == "bit":
        return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]
    if damage in ("bytes", "zeros"):
        length = min(length, len(content) - place)
        instead = chance.randbytes(length) if damage == "bytes" else bytes(length)
        return content[:place] + instead + content[place + length :]
    return content[:place] if damage == "end" else b""


def _in_fork(folder: Path, kind: Kind, *, is_made: bool = False) -> dict[str, Any]:
    """Read what is in a folder in a process of its own, which first makes it if asked to; return what that gave."""
    answer = folder.parent / "answer.json"
    answer.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(HANGS_AFTER_S)
            faulthandler.disable()
            if is_made:
                folder.mkdir()
                kind.make(folder)
            found = _reading(folder, kind)
            known = {"modules": sorted(sys.modules)} if is_made else {}
            answer.write_text(json.dumps(found | known, default=str))
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return {"signal": os.WTERMSIG(status)}
    answered: dict[str, Any] = json.loads(answer.read_text())
    return answered


def _reading(folder: Path, kind: Kind) -> dict[str, Any]:
    from mcl_ray.errors import MclError

    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        return {"value": kind.read(folder), "said": said}
    except MclError as error:
        return {"error": str(error), "said": said}
    except BaseException:
        return {"traceback": traceback.format_exc()[-2000:]}
