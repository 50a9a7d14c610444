"""The protocol that a search and a suite satisfy: everything that running, resuming and ranking one needs to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, Self

from mcl_ray.config.scoring import Scoring
from mcl_ray.config.spec import RunSpec
from searches.spec.space import Point, Space
from searches.spec.strategy import Direction, Outputs, Strategy

Kind = Literal["search", "suite"]


class Experiment(Protocol):
    """A frozen spec of trials: what they train, in which order, and how they are scored."""

    extensible: ClassVar[tuple[str, ...]]
    """Fields that a resumed sweep may raise, or lift (null); all others must stay as they are."""

    @property
    def kind(self) -> Kind:
        """Key of the behaviour in `searches.kinds`."""

    @property
    def name(self) -> str:
        """Name of the sweep; its id adds a digest and a serial."""

    @property
    def run(self) -> RunSpec:
        """Spec that every trial trains, apart from its point."""

    @property
    def space(self) -> Space:
        """Field of a point → the values it may take."""

    @property
    def first_points(self) -> Sequence[Point]:
        """Points tried before the sampler proposes any."""

    @property
    def trials(self) -> int:
        """Number of configurations."""

    @property
    def repeats(self) -> int:
        """Number of runs of each configuration, which differ in their seed."""

    @property
    def num_seeds(self) -> int:
        """Number of seeds of a configuration that is confirmed, and of `compared`."""

    @property
    def num_confirmed(self) -> int:
        """Number of best configurations that get further seeds after the trials, beside `own_point`; 0: none."""

    @property
    def own_point(self) -> Point | None:
        """The run's own values, if they are a point of the space that is to be confirmed."""

    @property
    def compared(self) -> Mapping[str, Point]:
        """Trial id → configuration that is trained after the trials for comparison, and is no result."""

    @property
    def num_runs(self) -> int:
        """Number of runs: all configurations with all seeds."""

    @property
    def objective(self) -> str:
        """Metric that is maximised, as split/metric/member."""

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Direction of the objective and of each cost."""

    @property
    def scoring(self) -> Scoring:
        """Rule by which results are read: the score over seeds, the number of seeds, and the costs."""

    @property
    def strategy(self) -> Strategy:
        """Sampler, scheduler, earlier sweeps and time limit."""

    @property
    def outputs(self) -> Outputs:
        """Checkpoints that are kept, and the study's database."""

    @property
    def batch_runs(self) -> list[RunSpec]:
        """Runs that have among them every batch that a trial may use."""

    def trial_run(self, point: Point) -> RunSpec:
        """Return the run of one configuration, with the first seed."""

    def trial_runs(self, point: Point) -> tuple[RunSpec, ...]:
        """Return the runs of one configuration, one for each seed."""

    def seed_runs(self, point: Point) -> tuple[RunSpec, ...]:
        """Return `num_seeds` runs of one configuration, which differ in the seed."""

    def with_overrides(self, overrides: Sequence[str]) -> Self:
        """Return a copy with fields replaced, given as `field=value`."""

    def with_more_trials(self, trials: int) -> Self:
        """Return a copy with more trials."""

    @property
    def plugins(self) -> tuple[str, ...]:
        """Modules that the specs of its runs name."""

    def with_named_plugins(self) -> Self:
        """Return a copy whose runs name the modules of every part of a plugin that any of its fields names."""

    def leaves(self) -> dict[str, Any]:
        """Return every field by its full path, for comparisons."""

    def model_dump(self, *, mode: str = ...) -> dict[str, Any]:
        """Return the spec as plain data."""
