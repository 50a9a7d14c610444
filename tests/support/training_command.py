"""The command `train` as a process that has trained an epoch, also with readers of images."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.commands import command, surroundings
from tests.support.run_progress import runs_of

WITH_READERS = (
    *("imagenet", "networks=resnet8", "image_size=16", "batch.size=6", "negatives=8", "epochs=1000"),
    *("--readers", "2", "--data", "pictures"),
)
"""Words of a run with two readers, of the folder `pictures`."""


@contextmanager
def training(cwd: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A run that has trained an epoch, killed on leaving if it still trains."""
    pipe, arguments = subprocess.PIPE, command("train", *words)
    with subprocess.Popen(arguments, cwd=cwd, env=surroundings(), stdout=pipe, stderr=pipe, text=True) as process:
        try:
            while not any(run["epochs_done"] for run in runs_of(cwd / "results")):
                assert process.poll() is None, process.communicate()
                time.sleep(0.1)
            yield process
        finally:
            process.kill()
