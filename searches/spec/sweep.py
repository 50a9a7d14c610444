"""The spec of a search: `SweepSpec`, the same model in a file, on the command line and in the stored record.

It is built with `mcl_ray.config.overrides.validate`, which completes what is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from mcl_ray.analysis.roles import BASELINE, PUBLISHED
from mcl_ray.config.overrides import parse, replace
from mcl_ray.config.plugins import are_imported
from mcl_ray.config.scoring import Score, Scoring, current_names
from mcl_ray.config.spec import Count, RunSpec
from mcl_ray.config.unused_fields import check_used
from mcl_ray.errors import SpecError, unknown
from searches.spec.base import ExperimentSpec
from searches.spec.baseline import completed_baseline
from searches.spec.fields import resolved
from searches.spec.samplers import SAMPLERS
from searches.spec.space import Point, Space, Value, applied, contains, grid, num_values
from searches.spec.start import completed, start_point
from searches.spec.strategy import (
    ConfirmationSpec,
    Cost,
    Direction,
    Outputs,
    SamplerSpec,
    SchedulerSpec,
    ScoreSpec,
    Strategy,
)

SWEEP_VERSION = 1
DEFAULT_TRIALS = 90
STORED = "stored"
"""Key in the context of the validation, true for a spec of a sweep's record, which may be of an earlier version."""
MAX_GP_VALUES = 100_000
"""Maximum number of values of a field of whole numbers or steps with the sampler `gp`, which needs seconds."""

SweepId = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}-[0-9a-f]{10}-[0-9]+$")]


class SweepSpec(ExperimentSpec):
    """A search over fields of one run spec."""

    version: Annotated[int, Field(ge=1, le=SWEEP_VERSION)] = SWEEP_VERSION
    """Version of this format; a file from a newer one is refused."""
    name: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")] = "custom"
    """Name of the sweep; its id adds a digest and a serial."""
    run: RunSpec
    """Spec that every trial trains, apart from the searched fields."""
    space: Space
    """Field of the run → the values it may take: `{kind: float, low, high, log, step}`, `{kind: int, low, high, log,
    step}` or `{kind: choice, values}`, each with `when: {other field: [values]}` if it is searched only there. A list
    of several networks sets cohort.size to their number, unless the configuration has one, which must agree."""
    trials: Annotated[Count, Field(default=None)]
    """Configurations tried; null: 90, or all points of a grid."""
    objective: Annotated[str, Field(pattern=r"^validation/(knn_)?(top1|top5)/(mean|best|ensemble|peer\d+)$")] = (
        "validation/top1/mean"
    )
    """Metric that is maximised, as split/metric/member; never on the test split. Of `moco`, the metric is knn_top1 or
    knn_top5."""
    costs: tuple[Cost, ...] = ()
    """Costs that are minimised beside it, of the whole cohort: `parameters`, `multiply_adds` (per image, forward),
    `training_time_s` (of the steps of all epochs). The search then looks for the front between them, and no trial ends
    early."""
    baseline: Annotated[dict[str, Value], Field(default_factory=dict)]
    """Field → value of one more configuration, which is trained to its end after the trials and shown beside them, but
    is no result of the search: a network alone, beside cohorts. {}: none."""
    repeats: Count = 1
    """Runs of every configuration, with the seeds run.seed, run.seed + 1 and so on."""
    score: ScoreSpec = ScoreSpec()
    confirm: ConfirmationSpec = ConfirmationSpec()
    sampler: SamplerSpec = SamplerSpec()
    scheduler: SchedulerSpec = SchedulerSpec()
    start: tuple[dict[str, Value], ...] = ()
    """Points tried first, after the run's own values where those lie in the space; fields that a point leaves out have
    the run's own values."""
    warm_start: tuple[SweepId, ...] = ()
    """Earlier sweeps in the same results folder, from whose finished trials the sampler (`tpe` or `gp`) learns."""
    keep_checkpoints: Count | None = 5
    """Number of best configurations that keep their checkpoints, others lose them as they end; null: all keep them."""
    study: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_+]*://\S*$")] | None = None
    """Database that the Optuna study is exported to, as SQLAlchemy's URL, stored as it is given: leave passwords to
    the database's own configuration. null: the file study.db in the sweep's folder."""
    time_limit_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Wall time after which no trial starts or continues, in seconds; null: no limit."""

    kind: ClassVar[Literal["search"]] = "search"
    extensible: ClassVar[tuple[str, ...]] = ("trials", "time_limit_s", "keep_checkpoints")

    @model_validator(mode="wrap")
    @classmethod
    def _fill_in_trials(cls, data: object, check: ModelWrapValidatorHandler[SweepSpec]) -> SweepSpec:
        """Replace null by a number; of a grid it is known only once the space is complete."""
        spec = check(data)
        if spec.trials is not None:
            return spec
        trials = len(spec.first_points) if spec.sampler.kind == "grid" else DEFAULT_TRIALS
        return check({name: getattr(spec, name) for name in cls.model_fields} | {"trials": trials})

    @field_validator("trials", mode="wrap")
    @classmethod
    def _accept_null(cls, trials: object, check: ValidatorFunctionWrapHandler) -> Any:
        return None if trials is None else check(trials)

    @field_validator("run")
    @classmethod
    def _search_never_reads_the_test_split(cls, run: RunSpec) -> RunSpec:
        if not run.data.validation_fraction:
            raise ValueError(
                "a search scores on held-out training images: run.data.validation_fraction > 0 must hold, but got 0.0"
            )
        return replace(run, {"evaluation.test": "never"})

    @model_validator(mode="after")
    def _objective_is_what_the_method_is_scored_by(self) -> SweepSpec:
        if not self.run.trains_networks:
            raise ValueError(f"a search trains networks, but got run.method={self.run.method}, which freezes them")
        if self.run.has_known_method and ("/knn_" in self.objective) == self.run.is_supervised:
            raise ValueError(
                f"nearest neighbours (knn_top1, knn_top5) score method=moco, and it alone, but got "
                f"objective={self.objective} and run.method={self.run.method}"
            )
        return self

    @field_validator("space")
    @classmethod
    def _complete_space(cls, space: Space, info: ValidationInfo) -> Space:
        may_have_seed = bool((info.context or {}).get(STORED))
        return resolved(space, info.data["run"], may_have_seed=may_have_seed) if "run" in info.data else space

    @field_validator("costs", mode="before")
    @classmethod
    def _costs_have_their_current_names(cls, names: object) -> object:
        return current_names(map(str, names)) if isinstance(names, list | tuple) else names

    @field_validator("costs", "warm_start")
    @classmethod
    def _names_are_distinct(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError(f"each can be named once, but got {', '.join(names)}")
        return names

    @field_validator("start")
    @classmethod
    def _complete_start_points(
        cls, start: tuple[dict[str, Value], ...], info: ValidationInfo
    ) -> tuple[dict[str, Value], ...]:
        if "run" not in info.data or "space" not in info.data:
            return start
        return tuple(start_point(given, info.data["space"], info.data["run"]) for given in start)

    @field_validator("baseline")
    @classmethod
    def _complete_baseline(cls, baseline: dict[str, Value], info: ValidationInfo) -> dict[str, Value]:
        if "run" not in info.data:
            return baseline
        return completed_baseline(baseline, info.data["run"])

    @model_validator(mode="after")
    def _every_cohort_has_the_objectives_member(self) -> SweepSpec:
        member, smallest = self.objective.rpartition("/")[2], min(self._sizes())
        if not self._has_member(smallest):
            raise ValueError(
                f"every cohort must have the objective's member, but got {member} and sizes from {smallest}"
            )
        baseline = applied(self.run, self.baseline).cohort.size
        if self.baseline and not self._has_member(baseline):
            raise ValueError(
                f"the baseline must have the objective's member, but got {member} and {baseline} peers in the "
                "baseline; baseline={} takes it out"
            )
        return self

    @model_validator(mode="after")
    def _points_fit_the_space(self) -> SweepSpec:
        points = grid(self.space) if self.sampler.kind == "grid" else None
        if self.trials is None:  # filled in afterwards
            return self
        if points is not None and self.trials != len(points):
            raise ValueError(
                f"a grid tries each of its points once: trials={len(points)} or null must hold, but got {self.trials}"
            )
        if self.start and len(self.start_points) > self.trials:
            raise ValueError(
                f"every start point must have its trial, but got {len(self.start_points)} points (the run's own among "
                f"them if it lies in the space) and trials={self.trials}"
            )
        return self

    @model_validator(mode="after")
    def _parts_go_together(self) -> SweepSpec:
        if self.costs and self.scheduler.kind != "none":
            raise ValueError(
                f"early stopping needs a single objective: costs need scheduler.kind=none, but got "
                f"{self.scheduler.kind}"
            )
        sampler = SAMPLERS.get(self.sampler.kind)
        if sampler is None and are_imported(self.run.plugins):
            raise ValueError(unknown("sampler", self.sampler.kind, SAMPLERS))
        if self.warm_start and sampler is not None and not sampler.learns_from_others:
            learning = ", ".join(name for name, one in SAMPLERS.items() if one.learns_from_others)
            raise ValueError(
                f"warm_start needs a sampler that learns from trials it did not propose ({learning}), but got "
                f"{self.sampler.kind}"
            )
        many = [path for path, dimension in self.space.items() if num_values(dimension) > MAX_GP_VALUES]
        if self.sampler.kind == "gp" and many:
            raise ValueError(
                f"gp lists every value of a field of whole numbers or steps, at most {MAX_GP_VALUES:,}, but "
                f"{many[0]} has {num_values(self.space[many[0]]):,}; give it a larger step, or use another sampler"
            )
        if self.run.seed + self.num_seeds > 2**32:
            raise ValueError(
                f"run.seed + repeats <= 2**32 must hold, also of the seeds of a confirmation, but got "
                f"seed={self.run.seed}, {self.num_seeds} seeds"
            )
        return self

    @property
    def strategy(self) -> Strategy:
        """Sampler, scheduler, earlier sweeps and time limit."""
        return Strategy(
            sampler=self.sampler,
            scheduler=self.scheduler,
            warm_start=self.warm_start,
            time_limit_s=self.time_limit_s,
        )

    @property
    def outputs(self) -> Outputs:
        """Checkpoints that are kept, and the study's database."""
        return Outputs(keep_checkpoints=self.keep_checkpoints, study=self.study)

    @property
    def scoring(self) -> Scoring:
        """Rule by which results are read: the score over seeds, the number of seeds, and the costs."""
        return Scoring(score=Score(self.score.kind, self.score.k), repeats=self.repeats, costs=self.costs)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of every configuration that does not search them."""
        return tuple(range(self.run.seed, self.run.seed + self.repeats))

    @property
    def num_seeds(self) -> int:
        """Number of seeds of a configuration that is confirmed, and of the baseline."""
        return max(self.repeats, self.confirm.seeds) if self.confirm.configurations else self.repeats

    @property
    def num_confirmed(self) -> int:
        """Number of best configurations that are confirmed, the run's own values not among them."""
        return self.confirm.configurations

    @property
    def own_point(self) -> dict[str, Value] | None:
        """The run's own values, in a predefined search the published ones; None if they are outside of the space."""
        own = completed({}, self.space, self.run)
        return own if contains(self.space, own) else None

    @property
    def compared(self) -> Mapping[str, Point]:
        """Configurations that are trained after the trials for comparison: the baseline, and the run's own values.

        The latter if the best are confirmed and the space does not hold them; otherwise they are a trial. A cohort
        without the member that the objective names has no figure to compare.
        """
        is_outside = self.num_confirmed and self.own_point is None and self._has_member(self.run.cohort.size)
        published = completed({}, self.space, self.run) if is_outside else {}
        return {name: point for name, point in ((BASELINE, self.baseline), (PUBLISHED, published)) if point}

    @property
    def num_runs(self) -> int:
        """Number of runs at most: all trials with their seeds, the further seeds, and those for comparison."""
        confirmed = min(self.num_confirmed + (self.own_point is not None), self.trials) if self.num_confirmed else 0
        further = confirmed * (self.num_seeds - self.repeats) + len(self.compared) * self.num_seeds
        return self.trials * self.repeats + further

    @property
    def objectives(self) -> tuple[str, ...]:
        """Objectives of the search: the objective, then the costs."""
        return self.objective, *self.costs

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Direction of each of the objectives."""
        minimize: Direction = "minimize"
        return "maximize", *(minimize for _ in self.costs)

    @property
    def start_points(self) -> list[dict[str, Value]]:
        """Distinct start points: the run's own values, if they lie in the space, then `start`."""
        own = self.own_point
        points: list[dict[str, Value]] = []
        for point in ([] if own is None else [own]) + list(self.start):
            points += [] if point in points else [point]
        return points

    @property
    def first_points(self) -> list[dict[str, Value]]:
        """Points tried before the sampler proposes any: the start points, and then the rest of a grid."""
        first = self.start_points
        rest = grid(self.space) if self.sampler.kind == "grid" else []
        return first + [point for point in rest if point not in first]

    def trial_run(self, point: Point) -> RunSpec:
        """Return the run of one configuration, with the first seed.

        Raises:
            SpecError: its values are not valid together.
        """
        return applied(self.run, point)

    def trial_runs(self, point: Point) -> tuple[RunSpec, ...]:
        """Return the runs of one configuration, one for each seed.

        Raises:
            SpecError: its values are not valid together.
        """
        return self.seed_runs(point)[: self.repeats]

    def seed_runs(self, point: Point) -> tuple[RunSpec, ...]:
        """Return the runs of a configuration that is confirmed, one for each seed; the first are those of its trial.

        Raises:
            SpecError: its values are not valid together.
        """
        first = self.trial_run(point)
        return tuple(replace(first, {"seed": first.seed + repeat}) for repeat in range(self.num_seeds))

    def best_run(self, point: Point) -> RunSpec:
        """Return the run of the chosen configuration: with its first seed, and scored on the test split at its end."""
        return replace(self.trial_run(point), {"evaluation.test": "at_end"})

    @property
    def batch_runs(self) -> list[RunSpec]:
        """Runs that have among them every batch and every bank at its extremes."""
        return [self.run] + [
            replace(self.run, {path: value})
            for path, dimension in self.space.items()
            if path.startswith(("batch.", "bank.")) and not dimension.when
            for value in dimension.ends()
        ]

    def with_overrides(self, overrides: Sequence[str]) -> SweepSpec:
        """Return a copy with fields replaced, given as `field=value`.

        Raises:
            SpecError: a rule is broken, a field that is searched was given one value, or a field has no effect.
        """
        values = parse(SweepSpec, overrides)
        spec = replace(self, values)
        if values.get("run.evaluation.test", "never") != "never":
            raise SpecError(
                "a search reads the test images once, at its end, for the best configuration: "
                f"run.evaluation.test=never must hold, but got {values['run.evaluation.test']}"
            )
        given = [path.removeprefix("run.") for path in values if path.startswith("run.")]
        check_used(spec.run, given)
        for path in given:
            if path in spec.space:
                raise SpecError(f"{path} is searched; space.{path}=null takes it out, so that it can have one value")
        return spec

    def with_more_trials(self, trials: int) -> SweepSpec:
        """Return a copy with more trials.

        Raises:
            SpecError: there are no more to try, as in a grid.
        """
        return replace(self, {"trials": self.trials + trials})

    def _has_member(self, size: int) -> bool:
        """Return whether a cohort of so many peers has the member that the objective names."""
        member = self.objective.rpartition("/")[2]
        return not member.startswith("peer") or int(member.removeprefix("peer")) < size

    def _sizes(self) -> set[int]:
        """Return numbers of peers, the smallest among them."""
        sizes, networks = self.space.get("cohort.size"), self.space.get("cohort.networks")
        numbers = {size for size in sizes.ends() if isinstance(size, int)} if sizes else {self.run.cohort.size}
        own = {self.run.cohort.size} if sizes and sizes.when else set()
        lists = {len(names) for names in networks.ends() if isinstance(names, tuple)} if networks else set()
        return numbers | own | (lists - {1})
