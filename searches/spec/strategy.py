"""Samplers, schedulers and scores as data: which configurations are proposed, which end early, how seeds are combined.

The searched fields are in `searches.spec.space`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mcl_ray.config.scoring import ScoreKind
from mcl_ray.config.spec import Count, NonNegative, names_of
from mcl_ray.config.spec_part import Part
from searches.spec.samplers import SAMPLERS

Cost = Literal["parameters", "multiply_adds", "training_time_s"]
Direction = Literal["maximize", "minimize"]


class SamplerSpec(Part):
    """Settings of the sampler, with which Optuna proposes configurations."""

    kind: Annotated[str, names_of(SAMPLERS)] = "tpe"
    """`tpe`: tree-structured Parzen estimator; `gp`: Gaussian process; `nsga2`: genetic, for several objectives;
    `qmc`: scrambled Sobol points; `random`: independent draws; `grid`: every point of the space once. Fields with a
    condition are drawn independently by `gp`, and by `qmc` where its first trial does not have them. Plugins add
    others."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the sampler; the runs' seed is run.seed."""
    startup_trials: Count = 10
    """Random configurations before `tpe` and `gp` learn from results; no other sampler has any."""
    population: Annotated[int, Field(ge=2)] = 20
    """Configurations in a generation of `nsga2`; no other sampler has any."""

    @model_validator(mode="after")
    def _settings_go_with_the_kind(self) -> SamplerSpec:
        _only_with(self, "startup_trials", [name for name, one in SAMPLERS.items() if one.has_startup_trials])
        _only_with(self, "population", [name for name, one in SAMPLERS.items() if one.has_population])
        return self


class SchedulerSpec(Part):
    """Settings of the scheduler, which ends trials early."""

    kind: Literal["asha", "hyperband", "none"] = "asha"
    """`asha`: asynchronous successive halving on the objective, by epoch. `hyperband`: the same in several brackets
    that start to halve later and later, so that slow starters survive; it is Tune's asynchronous Hyperband, in which no
    trial waits for others. `none`: every trial gets all epochs."""
    grace_epochs: Count = 10
    """Epochs that every trial gets."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """Number of trials of which one continues at each rung."""
    brackets: Annotated[int, Field(ge=2)] = 3
    """Brackets of `hyperband`: in bracket b = 0, 1, …, every trial gets grace_epochs × reduction_factor^b epochs. Those
    whose trials would all get all epochs are left out. Tune draws each trial's bracket, those that halve more often
    the likelier."""

    @model_validator(mode="after")
    def _settings_go_with_the_kind(self) -> SchedulerSpec:
        _only_with(self, "brackets", ("hyperband",))
        return self


class ScoreSpec(Part):
    """Rule that combines the objectives of a configuration's seeds into its score."""

    kind: ScoreKind = "mean"
    """`mean_minus_std` is the mean less k sample standard deviations: it prefers what is reliably good. Seeds that fail
    are left out while more than half of the seeds have not failed; otherwise the configuration fails."""
    k: NonNegative = 1.0
    """Standard deviations that `mean_minus_std` takes off; no other score has any."""

    @model_validator(mode="after")
    def _settings_go_with_the_kind(self) -> ScoreSpec:
        _only_with(self, "k", ("mean_minus_std",))
        return self


class ConfirmationSpec(Part):
    """Settings of the confirmation: the best configurations are trained with further seeds after the search."""

    configurations: Annotated[int, Field(ge=0)] = 4
    """Best configurations, of those that trained to the end, that get further seeds beside the run's own values; 0: no
    confirmation, not of these either."""
    seeds: Annotated[int, Field(ge=2)] = 3
    """Seeds that each of them has in the end, those of the search among them."""


def _only_with(part: SamplerSpec | SchedulerSpec | ScoreSpec, field: str, kinds: Sequence[str]) -> None:
    """Refuse a setting that has no effect with this kind."""
    value = getattr(part, field)
    if part.kind not in kinds and value != type(part).model_fields[field].default:
        raise ValueError(
            f"{field} goes with kind={' or '.join(kinds)} and only with it, but got kind={part.kind}, {field}={value}"
        )


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """The parts of an experiment that decide which trials run and for how long."""

    sampler: SamplerSpec
    scheduler: SchedulerSpec
    warm_start: tuple[str, ...] = ()
    """Ids of earlier sweeps whose trials the sampler learns from."""
    time_limit_s: float | None = None
    """Wall time after which no trial starts or continues, in seconds; None: no limit."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The parts of an experiment that decide what is stored beside its records."""

    keep_checkpoints: int | None = None
    """Number of best configurations that keep their checkpoints; None: all."""
    study: str | None = None
    """URL of the database of the Optuna study; None: the file study.db in the sweep's folder."""
