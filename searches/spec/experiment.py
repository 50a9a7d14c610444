"""What the engine runs, a search or a suite, and which of them a stored record is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mcl_ray.config.overrides import validate
from mcl_ray.config.spec import SPEC_VERSION
from mcl_ray.errors import SpecError
from searches.spec.suite import SUITE_VERSION, SuiteSpec
from searches.spec.sweep import SWEEP_VERSION, SweepSpec

Experiment = SweepSpec | SuiteSpec


def stored(spec_json: str) -> Experiment:
    """The resolved spec in a sweep's record; a suite has rows.

    Raises:
        SpecError: a newer version wrote it, or it breaks a rule.
    """
    tree = json.loads(spec_json)
    if "rows" in tree:
        _check_version(tree, "suite", SUITE_VERSION)
        return validate(SuiteSpec, tree)
    _check_version(tree, "search", SWEEP_VERSION)
    return validate(SweepSpec, tree)


def _check_version(tree: Mapping[str, Any], kind: str, newest: int) -> None:
    """Asked before anything else: what a newer version says, this one cannot know."""
    run = tree.get("run", {}).get("version", SPEC_VERSION)
    version = tree.get("version", newest)
    for what, found, known in ((kind, version, newest), ("run", run, SPEC_VERSION)):
        if found > known:
            raise SpecError(
                f"a newer mcl-ray wrote the sweep {tree.get('name')}, and it takes that one to go on with it or to "
                f"start from it: version <= {known} of a {what}'s spec must hold, but got {found}"
            )
