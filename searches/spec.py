"""What to search: `SweepSpec`, the same model as file, command line and stored record."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from mcl_ray.overrides import flat, replace
from mcl_ray.spec import Count, Part, RunSpec
from searches.space import Scalar, Space, resolved

SWEEP_VERSION = 1


class SamplerSpec(Part):
    """How Optuna proposes configurations."""

    kind: Literal["tpe", "random"] = "tpe"
    """`tpe`: tree-structured Parzen estimator; `random`: independent draws."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of the sampler; the runs' seed is run.seed."""
    startup_trials: Count = 10
    """Random configurations before `tpe` learns from results."""


class SchedulerSpec(Part):
    """Which trials end early."""

    kind: Literal["asha", "none"] = "asha"
    """`asha`: asynchronous successive halving on the objective, by epoch."""
    grace_epochs: Count = 10
    """Epochs that every trial gets."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """One of so many trials goes on at each rung."""


class SweepSpec(Part):
    """A search over fields of one run spec."""

    version: Annotated[int, Field(ge=1, le=SWEEP_VERSION)] = SWEEP_VERSION
    """Version of this format; a file from a newer one is refused."""
    name: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")] = "custom"
    """What the sweep is called; its id adds a digest and a serial."""
    run: RunSpec
    """What every trial trains, apart from the searched fields."""
    space: Space
    """Field of the run → the values it may take."""
    trials: Count = 100
    """Configurations tried."""
    objective: Annotated[str, Field(pattern=r"^validation/(top1|top5)/(mean|best|ensemble|peer\d+)$")] = (
        "validation/top1/mean"
    )
    """What is maximised, as split/metric/member; never on the test split."""
    sampler: SamplerSpec = SamplerSpec()
    scheduler: SchedulerSpec = SchedulerSpec()
    time_limit_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Wall time after which no trial starts or goes on, in seconds; null: none."""

    @field_validator("run")
    @classmethod
    def _search_never_reads_the_test_split(cls, run: RunSpec) -> RunSpec:
        if not run.data.validation_fraction:
            raise ValueError(
                "a search scores on held-out training images: run.data.validation_fraction > 0 must hold, but got 0.0"
            )
        return replace(run, {"evaluation.test": "never"})

    @model_validator(mode="after")
    def _space_fits_the_run(self) -> SweepSpec:
        object.__setattr__(self, "space", resolved(self.space, self.run))
        sizes = self.space["cohort.size"].ends() if "cohort.size" in self.space else (self.run.cohort.size,)
        member = self.objective.rpartition("/")[2]
        if member.startswith("peer") and int(member.removeprefix("peer")) >= min(map(int, sizes)):
            raise ValueError(
                f"every cohort must have the objective's member, but got {member} and sizes from {min(sizes)}"
            )
        return self

    @property
    def start_point(self) -> dict[str, Scalar] | None:
        """The run's own values where all of them lie in the space: they are tried first."""
        values = flat(self.run)
        point = {path: values[path][0] if path == "cohort.networks" else values[path] for path in self.space}
        return point if all(point[path] in dimension for path, dimension in self.space.items()) else None

    def trial_run(self, point: dict[str, Scalar]) -> RunSpec:
        """The run of one configuration."""
        return replace(self.run, point)

    def best_run(self, point: dict[str, Scalar]) -> RunSpec:
        """The run of the chosen configuration: the same, and scored on the test split at its end."""
        return replace(self.trial_run(point), {"evaluation.test": "at_end"})
