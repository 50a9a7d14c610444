"""Trials of a small sweep, as its records would tell of them."""

from __future__ import annotations

from mcl_ray.config.overrides import replace, validate
from searches.spec import search_registry
from searches.spec.sweep import SweepSpec
from searches.trial_history import KnownTrial

SPACE = {
    "losses.alpha": {"kind": "float", "low": 0.0, "high": 1.0},
    "cohort.size": {"kind": "int", "low": 1, "high": 4},
}


def sweep(**fields) -> SweepSpec:
    """`digits` with three epochs, searched over alpha and the cohort size."""
    tree = search_registry.digits().model_dump() | {"space": SPACE, "trials": 10}
    small = replace(validate(SweepSpec, tree), {"run.schedule.epochs": 3})
    return replace(small, fields)


def trial(
    number: int, state: str = "finished", scores=(50.0, 60.0, 70.0), *, alpha=None, size=2, **figures
) -> KnownTrial:
    """Trial `number`, with one score an epoch."""
    return KnownTrial(
        trial_id=f"{number:04d}",
        point={"losses.alpha": number / 100 if alpha is None else alpha, "cohort.size": size},
        state=state,
        curve=tuple(enumerate(scores, start=1)),
        costs={"parameters": 1000.0 * size},
        run_ids=(f"sweep-{number:04d}-r0",),
        **figures,
    )
