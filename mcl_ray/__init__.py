"""Mutual Contrastive Learning: cohorts of peer networks that teach each other, trained and tuned on Ray.

    from mcl_ray import CohortTrainer, CohortTuner

Importing this package loads none of its modules; each name is imported when it is first used. The mathematics is
`mcl_ray.losses.terms`, the training loop `mcl_ray.training.loop`, and the recipes are `mcl_ray.config.recipes`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcl_ray import register
    from mcl_ray.callbacks import RunCallback, SweepCallback
    from mcl_ray.config.spec import RunSpec
    from mcl_ray.errors import MclError
    from mcl_ray.sdk.load import load
    from mcl_ray.sdk.run import Run
    from mcl_ray.sdk.sweep import Sweep
    from mcl_ray.sdk.trainer import CohortTrainer
    from mcl_ray.sdk.tuner import CohortTuner

__all__ = [
    "CohortTrainer",
    "CohortTuner",
    "MclError",
    "Run",
    "RunCallback",
    "RunSpec",
    "Sweep",
    "SweepCallback",
    "__version__",
    "load",
    "register",
]
__version__ = "0.1.0"

_MODULES = {
    "CohortTrainer": "mcl_ray.sdk.trainer",
    "CohortTuner": "mcl_ray.sdk.tuner",
    "MclError": "mcl_ray.errors",
    "Run": "mcl_ray.sdk.run",
    "RunCallback": "mcl_ray.callbacks",
    "RunSpec": "mcl_ray.config.spec",
    "Sweep": "mcl_ray.sdk.sweep",
    "SweepCallback": "mcl_ray.callbacks",
    "load": "mcl_ray.sdk.load",
}


def __getattr__(name: str) -> Any:
    if name == "register":  # a module
        return import_module("mcl_ray.register")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
