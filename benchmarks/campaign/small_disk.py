"""A small file system in memory, whose space or inodes a campaign uses up; it needs root to be mounted."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

KINDS = ("disk", "inodes")
FILLING = ".filling"
BLOCK = 1 << 16


@contextlib.contextmanager
def small_disk(folder: Path, *, megabytes: int, inodes: int) -> Iterator[bool]:
    """Mount one at a new folder in this context; yield whether it could be, else the folder is a plain one."""
    folder.mkdir(parents=True)
    options = f"size={megabytes}m,nr_inodes={inodes}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    is_mounted = os.geteuid() == 0 and subprocess.run(mount, check=False).returncode == 0  # noqa: S603
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S603, S607


def fill(folder: Path, kind: str) -> None:
    """Use up what is left: the space, for `disk`, or the inodes."""
    filling = folder / FILLING
    filling.mkdir(exist_ok=True)
    with contextlib.suppress(OSError):
        if kind == "inodes":
            for number in range(1 << 20):
                (filling / str(number)).touch()
        else:
            with (filling / "blocks").open("wb", buffering=0) as file:
                while file.write(bytes(BLOCK)):
                    pass


def free(folder: Path) -> None:
    """Give back what was used up."""
    filling = folder / FILLING
    for file in filling.glob("*"):
        file.unlink()
    with contextlib.suppress(OSError):
        filling.rmdir()
