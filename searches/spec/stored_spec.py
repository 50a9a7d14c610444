"""Reading the spec in a sweep's record, as a search or a suite."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mcl_ray.config.overrides import validate
from mcl_ray.config.recipes import RUN_FIELDS
from mcl_ray.config.spec import SPEC_VERSION
from mcl_ray.errors import SpecError
from searches.spec.experiment import Experiment
from searches.spec.suite import SUITE_VERSION, SuiteSpec
from searches.spec.sweep import STORED, SWEEP_VERSION, SweepSpec


def stored_plugins(spec_json: str) -> tuple[str, ...]:
    """Return the modules that the runs of a stored search or suite name; to import them before it is parsed."""
    tree = json.loads(spec_json)
    runs = [tree[name] for name in RUN_FIELDS if tree.get(name)]
    return tuple(dict.fromkeys(module for run in runs for module in run.get("plugins", ())))


def parse_stored(spec_json: str) -> Experiment:
    """Return the resolved spec in a sweep's record; a suite has rows.

    Raises:
        SpecError: it was written by a newer version, or breaks a rule.
    """
    suite = parse_stored_suite(spec_json)
    if suite is not None:
        return suite
    tree = json.loads(spec_json)
    _check_version(tree, "search", SWEEP_VERSION)
    tree.setdefault("confirm", {"configurations": 0})  # earlier versions confirmed nothing
    if tree["sampler"]["kind"] == "grid":
        tree["trials"] = None  # counted again: earlier versions had points that differ in fields without effect only
    return validate(SweepSpec, tree, context={STORED: True})


def parse_stored_suite(spec_json: str) -> SuiteSpec | None:
    """Return the resolved suite in a sweep's record; None for a search.

    Raises:
        SpecError: it was written by a newer version, or breaks a rule.
    """
    tree = json.loads(spec_json)
    if "rows" not in tree:
        return None
    _check_version(tree, "suite", SUITE_VERSION)
    return validate(SuiteSpec, tree)


def _check_version(tree: Mapping[str, Any], kind: str, newest: int) -> None:
    """Check the versions first: fields of a newer version are not known here."""
    run = tree.get("run", {}).get("version", SPEC_VERSION)
    version = tree.get("version", newest)
    for name, found, known in ((kind, version, newest), ("run", run, SPEC_VERSION)):
        if found > known:
            raise SpecError(
                f"a newer mcl-ray wrote the sweep {tree.get('name')}, and only that version can resume it or start "
                f"from it: version <= {known} of a {name}'s spec must hold, but got {found}"
            )
