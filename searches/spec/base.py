"""Properties that `SweepSpec` and `SuiteSpec` have in common."""

from __future__ import annotations

from typing import Any, Self, get_origin

from mcl_ray.config.overrides import field_paths, flat, replace
from mcl_ray.config.part_modules import with_plugins
from mcl_ray.config.recipes import RUN_FIELDS
from mcl_ray.config.spec import RunSpec
from mcl_ray.config.spec_part import Part
from searches.spec.samplers import SAMPLERS


class ExperimentSpec(Part):
    """Base of the specs of experiments; it has no fields, as their order is that of the stored record."""

    def leaves(self) -> dict[str, Any]:
        """Return every leaf by its full path; each entry of a mapping is a leaf of its own."""
        values: dict[str, Any] = flat(self)
        for path, field in field_paths(type(self)):
            if get_origin(field.annotation) is dict:
                values |= {f"{path}.{name}": entry for name, entry in values.pop(path).items()}
        return values

    @property
    def plugins(self) -> tuple[str, ...]:
        """Modules that the specs of its runs name."""
        runs = (getattr(self, name, None) for name in RUN_FIELDS)
        return tuple(dict.fromkeys(module for run in runs if isinstance(run, RunSpec) for module in run.plugins))

    def with_named_plugins(self) -> Self:
        """Return a copy whose runs name the modules of every part of a plugin that any of its fields names."""
        tree = self.model_dump()
        runs = {name: run for name in RUN_FIELDS if isinstance(run := getattr(self, name, None), RunSpec)}
        complete = {name: with_plugins(run, tree, [SAMPLERS]) for name, run in runs.items()}
        return self if complete == runs else replace(self, complete)
