"""Fields of a run that have an effect only with certain settings of others: setting one without effect is an error.

The table is in `uses.py`. Fields whose effect depends on numbers, as weights of zero, may be set in any run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mcl_ray.config.spec import RunSpec
from mcl_ray.config.uses import USES
from mcl_ray.errors import SpecError


def check_used(run: RunSpec, paths: Iterable[str]) -> None:
    """Check that the fields which a user set have an effect in this run.

    Args:
        run: the spec with these fields set.
        paths: full paths of the fields.

    Raises:
        SpecError: one of them has no effect.
    """
    check_used_by_any([run], paths)


def check_used_by_any(runs: Sequence[RunSpec], paths: Iterable[str]) -> None:
    """Check that each field which a user set for several runs has an effect in at least one of them.

    Args:
        runs: the specs with these fields set.
        paths: full paths of the fields.

    Raises:
        SpecError: one of them has no effect in any of the runs.
    """
    for path in paths:
        problems = [_unused_message(run, path) for run in runs]
        if None not in problems:
            raise SpecError(str(problems[0]))


def _unused_message(run: RunSpec, path: str) -> str | None:
    """Return the error message for a field without effect in a run; None if it has an effect."""
    if not run.has_known_method:  # a plugin that was not imported has it
        return None
    for use in USES:
        if path.startswith(use.fields) and not use.holds(run):
            other = use.when.partition("=")[0]
            return f"{path} requires {use.when}, but got {other}={_value(run, other)}; leave {path} out"
    return None


def _value(run: RunSpec, path: str) -> object:
    value: object = run
    for name in path.split("."):
        value = getattr(value, name)
    return value
