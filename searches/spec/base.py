"""Properties that `SweepSpec` and `SuiteSpec` have in common."""

from __future__ import annotations

from typing import Any, get_origin

from mcl_ray.config.overrides import field_paths, flat
from mcl_ray.config.spec import Part


class ExperimentSpec(Part):
    """Base of the specs of experiments; it has no fields, as their order is that of the stored record."""

    def leaves(self) -> dict[str, Any]:
        """Return every leaf by its full path; each entry of a mapping is a leaf of its own."""
        values: dict[str, Any] = flat(self)
        for path, field in field_paths(type(self)):
            if get_origin(field.annotation) is dict:
                values |= {f"{path}.{name}": entry for name, entry in values.pop(path).items()}
        return values
