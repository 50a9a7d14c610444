"""The roles of a sweep's runs: those of the search, further seeds of configurations, and those for comparison alone.

A run's name ends in its repeat, `-r0`; a search trains the repeats below `repeats`, and further ones after its trials.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

BASELINE = "baseline"
"""Trial id of a search's baseline."""
PUBLISHED = "published"
"""Trial id of the run's own values, in a predefined search the published ones, where they lie outside of the space."""
COMPARED = (BASELINE, PUBLISHED)
"""Trial ids of the configurations that are trained for comparison and are no results of the search."""
_REPEAT = re.compile(r"-r(\d+)$")
COUNTED = ("finished", "failed")
"""States in which a further run counts: it is trained to its end, or not at all."""


def repeat_of(run_id: str) -> int:
    """Return the number of a run among the seeds of its configuration, from 0."""
    match = _REPEAT.search(run_id)
    return int(match[1]) if match else 0


def counts(run: Mapping[str, Any], repeats: int) -> bool:
    """Return whether a run counts for its configuration: a further one once it has trained to its end, or failed."""
    return not is_further(run, repeats) or run["state"] in COUNTED


def is_further(run: Mapping[str, Any], repeats: int) -> bool:
    """Return whether a row of the table of runs is a further seed, trained after the trials of the search."""
    return run["trial_id"] is not None and repeat_of(run["run_id"]) >= repeats
