"""State of samplers beside trials, in files with a checksum; without it, a sampler learns from the trials alone.

The attributes of the study are in `sampler.json`, those of trials in `sampler_0000.json`, `sampler_0100.json`, …, each
of a hundred trials, so that what is written for a trial does not grow with the number of trials. Earlier versions kept
all in `sampler.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcl_ray.results.atomic_io import set_aside, write_atomically
from mcl_ray.results.remote.pull import push
from mcl_ray.results.schema import verified, with_checksum

KEYS = {"study", "trials"}
STUDY_FILE = "sampler.json"
TRIALS_PER_FILE = 100

Attributes = Mapping[str, Any]


class SamplerMemory:
    """The attributes that samplers have set on a study and on its trials."""

    def __init__(self, folder: Path) -> None:
        """Read what the folder of a sweep holds.

        Raises:
            StoreError: a damaged file cannot be renamed.
        """
        self._folder = folder
        self._of_earlier_versions: dict[str, Attributes] = {}
        self.of_study: Attributes = {}
        """Name → value."""
        self.of_trials: dict[str, Attributes] = {}
        """Our id of a trial → its attributes, for trials that have any."""
        for path in [folder / STUDY_FILE, *sorted(folder.glob("sampler_*.json"))]:
            content = read_memory(path)
            if path.name == STUDY_FILE:
                self.of_study, self._of_earlier_versions = content["study"], content["trials"]
            self.of_trials |= content["trials"]
        self._by_file: dict[str, dict[str, Attributes]] = {}
        for trial_id, attributes in self.of_trials.items():
            self._by_file.setdefault(_file_of(trial_id), {})[trial_id] = attributes
        self._unwritten: set[str] = set()
        self._not_uploaded: set[Path] = set()

    def save(self, of_study: Attributes, of_trials: Mapping[str, Attributes]) -> None:
        """Write the attributes of the study, and those of the given trials, where they have changed.

        Raises:
            StoreError: a file cannot be written or uploaded; the next call tries again.
        """
        changed = {
            trial_id: dict(attributes)
            for trial_id, attributes in of_trials.items()
            if attributes and attributes != self.of_trials.get(trial_id)
        }
        for trial_id, attributes in changed.items():
            self._by_file.setdefault(_file_of(trial_id), {})[trial_id] = attributes
        self.of_trials |= changed
        self._unwritten |= {_file_of(trial_id) for trial_id in changed}
        for name in sorted(self._unwritten):
            self._write(name, {"study": {}, "trials": self._by_file[name]})
            self._unwritten.remove(name)
        if of_study != self.of_study:
            self._write(STUDY_FILE, {"study": of_study, "trials": self._of_earlier_versions})
            self.of_study = dict(of_study)
        if self._not_uploaded:
            push(self._not_uploaded)
            self._not_uploaded.clear()

    def _write(self, name: str, content: dict[str, Any]) -> None:
        write_memory(self._folder / name, content)
        self._not_uploaded.add(self._folder / name)


def _file_of(trial_id: str) -> str:
    return f"sampler_{int(trial_id) // TRIALS_PER_FILE * TRIALS_PER_FILE:04d}.json"


def write_memory(file: Path, content: dict[str, dict[str, Any]]) -> None:
    """Write the attributes of the study and of its trials.

    Raises:
        StoreError: the file cannot be written.
    """
    write_atomically(file, json.dumps(with_checksum(content)).encode())


def read_memory(file: Path) -> dict[str, dict[str, Any]]:
    """Return the attributes of the study and of its trials; none without a file, or of a damaged one.

    A damaged file is set aside, with a warning. Files of earlier code have no checksum.

    Raises:
        StoreError: a damaged file cannot be renamed.
    """
    try:
        content = verified(json.loads(file.read_bytes()))
        if set(content) != KEYS:
            raise ValueError("it is of another kind")
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, AttributeError) as error:
        set_aside(file, str(error), "the sampler continues from the recorded trials")
    else:
        return content
    return {key: {} for key in KEYS}
