"""The record of a warm start, `warm_start.json` in a sweep's folder: how many trials of which sweep its sampler learns.

Which trials these are is decided in `searches.warm_start`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mcl_ray.errors import StoreError
from mcl_ray.results.atomic_io import read_bytes, write_atomically

WARM_START_FILE = "warm_start.json"


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """The numbers of an earlier sweep's trials that were taken and left out."""

    sweep_id: str
    """Id of the earlier sweep."""
    num_taken: int
    left_out: Mapping[str, int]
    """Reason, to be read after the number → number of trials that were left out for it."""

    @property
    def num_trials(self) -> int:
        """Number of trials of the earlier sweep."""
        return self.num_taken + sum(self.left_out.values())

    def __str__(self) -> str:
        """Return `9 of 12 trials of digits-0123456789-1; left out: 2 failed, 1 with …`."""
        reasons = ", ".join(f"{number} {reason}" for reason, number in self.left_out.items())
        left_out = f"; left out: {reasons}" if reasons else ""
        return f"{self.num_taken} of {self.num_trials} trials of {self.sweep_id}{left_out}"


def write_warm_start(sweep_folder: Path, found: Sequence[WarmStart]) -> Path:
    """Write the record into a sweep's folder, and return its file.

    Raises:
        StoreError: the file cannot be written.
    """
    file = sweep_folder / WARM_START_FILE
    write_atomically(file, (json.dumps(list(map(asdict, found)), ensure_ascii=False, indent=1) + "\n").encode())
    return file


def read_warm_start(sweep_folder: Path) -> list[WarmStart]:
    """Return the record of a sweep's warm start; of a sweep without one, and of an earlier version's, an empty list.

    Raises:
        StoreError: the file is damaged.
    """
    file = sweep_folder / WARM_START_FILE
    if not file.exists():
        return []
    try:
        return [WarmStart(**entry) for entry in json.loads(read_bytes(file))]
    except (ValueError, TypeError) as error:
        raise StoreError(f"the record of a warm start must be complete, but {file} is damaged: {error}") from error
