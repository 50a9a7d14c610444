"""What samplers keep beside trials, in a file with a checksum; without it, a sampler learns from the trials alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mcl_ray.results.atomic_io import set_aside, write_atomically

CHECKSUM = "sha256"
KEYS = {"study", "trials"}


def write_memory(file: Path, content: dict[str, dict[str, Any]]) -> None:
    """Write the attributes of the study and of its trials.

    Raises:
        StoreError: the file cannot be written.
    """
    write_atomically(file, json.dumps(content | {CHECKSUM: _checksum(content)}).encode())


def read_memory(file: Path) -> dict[str, dict[str, Any]]:
    """Return the attributes of the study and of its trials; none without a file, or of a damaged one.

    A damaged file is set aside, with a warning. Files of earlier code have no checksum.

    Raises:
        StoreError: a damaged file cannot be renamed.
    """
    try:
        content = json.loads(file.read_bytes())
        checksum = content.pop(CHECKSUM, None)
        if set(content) != KEYS or checksum not in (None, _checksum(content)):
            raise ValueError("its checksum is that of another content")
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, AttributeError) as error:
        set_aside(file, str(error), "the sampler continues from the recorded trials")
    else:
        return content  # type: ignore[no-any-return]
    return {key: {} for key in KEYS}


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
