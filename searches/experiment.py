"""What the engine runs, a search or a suite, and which of them a stored record is."""

from __future__ import annotations

import json

from mcl_ray.overrides import validate
from searches.spec import SweepSpec
from searches.suite import SuiteSpec

Experiment = SweepSpec | SuiteSpec


def stored(spec_json: str) -> Experiment:
    """The resolved spec in a sweep's record; a suite has rows.

    Raises:
        SpecError: it breaks a rule, as one from a newer version may.
    """
    tree = json.loads(spec_json)
    return validate(SuiteSpec, tree) if "rows" in tree else validate(SweepSpec, tree)
