"""What to search: `SweepSpec`, the same model as file, command line and stored record."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidatorFunctionWrapHandler, field_validator, model_validator

from mcl_ray.config.overrides import flat, replace
from mcl_ray.config.scoring import Score, Scoring, current_names
from mcl_ray.config.spec import Count, Part, RunSpec
from searches.spec.fields import full_path, resolved
from searches.spec.space import Point, Space, Value, applied, applies, contains, grid
from searches.spec.strategy import Cost, SamplerSpec, SchedulerSpec, ScoreSpec

SWEEP_VERSION = 1
DEFAULT_TRIALS = 100

Direction = Literal["maximize", "minimize"]
SweepId = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}-[0-9a-f]{10}-[0-9]+$")]


class SweepSpec(Part):
    """A search over fields of one run spec."""

    version: Annotated[int, Field(ge=1, le=SWEEP_VERSION)] = SWEEP_VERSION
    """Version of this format; a file from a newer one is refused."""
    name: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")] = "custom"
    """What the sweep is called; its id adds a digest and a serial."""
    run: RunSpec
    """What every trial trains, apart from the searched fields."""
    space: Space
    """Field of the run → the values it may take: `{kind: float, low, high, log, step}`, `{kind: int, low, high, log,
    step}` or `{kind: choice, values}`, each with `when: {other field: [values]}` if it is searched only there. A list
    of several networks sets cohort.size to their number, unless the configuration has one, which must agree."""
    trials: Annotated[Count, Field(default=None)]
    """Configurations tried; null: 100, or all points of a grid."""
    objective: Annotated[str, Field(pattern=r"^validation/(knn_)?(top1|top5)/(mean|best|ensemble|peer\d+)$")] = (
        "validation/top1/mean"
    )
    """What is maximised, as split/metric/member; never on the test split. Of `moco`, the metric is knn_top1 or
    knn_top5."""
    costs: tuple[Cost, ...] = ()
    """What is minimised beside it, of the whole cohort: `parameters`, `multiply_adds` (per image, forward),
    `training_time_s` (of the steps of all epochs). The search then looks for the front between them, and no trial ends
    early."""
    repeats: Count = 1
    """Runs of every configuration, with the seeds run.seed, run.seed + 1 and so on."""
    score: ScoreSpec = ScoreSpec()
    sampler: SamplerSpec = SamplerSpec()
    scheduler: SchedulerSpec = SchedulerSpec()
    start: tuple[dict[str, Value], ...] = ()
    """Points tried first, after the run's own values where those lie in the space; fields that a point leaves out have
    the run's own values."""
    warm_start: tuple[SweepId, ...] = ()
    """Earlier sweeps in the same results folder, whose finished trials the sampler (`tpe` or `gp`) knows at once."""
    keep_checkpoints: Count | None = 5
    """Only the best so many configurations keep their checkpoints, those of others go as they end; null: all stay."""
    study: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_+]*://\S*$")] | None = None
    """Database that the Optuna study is mirrored into, as SQLAlchemy's URL, stored as it is given: leave passwords to
    the database's own configuration. null: the file study.db in the sweep's folder."""
    time_limit_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Wall time after which no trial starts or goes on, in seconds; null: none."""

    then: ClassVar[None] = None
    built_on: ClassVar[None] = None

    @field_validator("trials", mode="wrap")
    @classmethod
    def _null_is_all(cls, trials: object, check: ValidatorFunctionWrapHandler) -> Any:
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
        if self.run.method == "linear":
            raise ValueError("a search trains networks, but got run.method=linear, which freezes them")
        if ("/knn_" in self.objective) == self.run.is_supervised:
            raise ValueError(
                f"nearest neighbours (knn_top1, knn_top5) score method=moco, and it alone, but got "
                f"objective={self.objective} and run.method={self.run.method}"
            )
        return self

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

    @model_validator(mode="after")
    def _space_fits_the_run(self) -> SweepSpec:
        object.__setattr__(self, "space", resolved(self.space, self.run))
        member, smallest = self.objective.rpartition("/")[2], min(self._sizes())
        if member.startswith("peer") and int(member.removeprefix("peer")) >= smallest:
            raise ValueError(
                f"every cohort must have the objective's member, but got {member} and sizes from {smallest}"
            )
        return self

    @model_validator(mode="after")
    def _points_fit_the_space(self) -> SweepSpec:
        object.__setattr__(self, "start", tuple(self._start_point(given) for given in self.start))
        points = grid(self.space) if self.sampler.kind == "grid" else None
        if self.trials is None:
            object.__setattr__(self, "trials", DEFAULT_TRIALS if points is None else len(points))
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
                f"with several objectives no trial can be told to be behind: costs need scheduler.kind=none, but got "
                f"{self.scheduler.kind}"
            )
        if self.warm_start and self.sampler.kind not in ("tpe", "gp"):
            raise ValueError(
                f"warm_start needs a sampler that learns from trials it did not propose (tpe, gp), but got "
                f"{self.sampler.kind}"
            )
        if self.repeats > 1 and "seed" in self.space:
            raise ValueError(
                f"repeats give every configuration the same seeds, so that seed cannot be searched with "
                f"repeats={self.repeats}"
            )
        if self.run.seed + self.repeats > 2**32:
            raise ValueError(
                f"run.seed + repeats <= 2**32 must hold, but got seed={self.run.seed}, repeats={self.repeats}"
            )
        return self

    @property
    def scoring(self) -> Scoring:
        """How results are read: the score of a configuration's seeds, how many there are, and the costs."""
        return Scoring(score=Score(self.score.kind, self.score.k), repeats=self.repeats, costs=self.costs)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of every configuration that does not search them."""
        return tuple(range(self.run.seed, self.run.seed + self.repeats))

    @property
    def num_runs(self) -> int:
        """Runs of all configurations with all seeds."""
        return self.trials * self.repeats

    @property
    def objectives(self) -> tuple[str, ...]:
        """What is optimised: the objective, then the costs."""
        return self.objective, *self.costs

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Where to, for each of the objectives."""
        minimize: Direction = "minimize"
        return "maximize", *(minimize for _ in self.costs)

    @property
    def start_points(self) -> list[dict[str, Value]]:
        """The run's own values, if they lie in the space, then the points to start with; each once."""
        own = self._completed({})
        points: list[dict[str, Value]] = []
        for point in ([own] if contains(self.space, own) else []) + list(self.start):
            points += [] if point in points else [point]
        return points

    @property
    def first_points(self) -> list[dict[str, Value]]:
        """What is tried before the sampler is asked: the start points, and then the rest of a grid."""
        first = self.start_points
        rest = grid(self.space) if self.sampler.kind == "grid" else []
        return first + [point for point in rest if point not in first]

    def trial_run(self, point: Point) -> RunSpec:
        """The run of one configuration, with the first seed.

        Raises:
            SpecError: its values do not go together.
        """
        return applied(self.run, point)

    def trial_runs(self, point: Point) -> tuple[RunSpec, ...]:
        """The runs of one configuration, one a seed.

        Raises:
            SpecError: its values do not go together.
        """
        first = self.trial_run(point)
        return tuple(replace(first, {"seed": first.seed + repeat}) for repeat in range(self.repeats))

    def best_run(self, point: Point) -> RunSpec:
        """The run of the chosen configuration: the first of its trial's, and scored on the test split at its end."""
        return replace(self.trial_run(point), {"evaluation.test": "at_end"})

    def _sizes(self) -> set[int]:
        """Numbers of peers, the smallest among them."""
        sizes, networks = self.space.get("cohort.size"), self.space.get("cohort.networks")
        numbers = {size for size in sizes.ends() if isinstance(size, int)} if sizes else {self.run.cohort.size}
        own = {self.run.cohort.size} if sizes and sizes.when else set()
        lists = {len(names) for names in networks.ends() if isinstance(names, tuple)} if networks else set()
        return numbers | own | (lists - {1})

    def _completed(self, point: Point) -> dict[str, Value]:
        """The point as the space spells it, with the run's own values, in the space or not, for what it leaves out."""
        values, complete = flat(self.run), dict[str, Value]()
        for path, dimension in self.space.items():
            if applies(dimension, complete):
                value = point.get(path, values[path])
                match = dimension.match(value)
                complete[path] = value if match is None else match
        return complete

    def _start_point(self, given: Point) -> dict[str, Value]:
        try:
            point = {full_path(name): value for name, value in given.items()}
        except ValueError as error:
            raise ValueError(f"start point: {error}") from error
        complete = self._completed(point)
        for path, value in point.items():
            if path not in self.space:
                raise ValueError(f"a start point has fields of the space, but {path} is not in it")
            if path not in complete:
                raise ValueError(f"a start point has fields in play, but the conditions of {path} do not hold at it")
            if value not in self.space[path]:
                raise ValueError(f"a start point lies in the space, but {path} cannot be {value!r}")
        for path, value in complete.items():
            if value not in self.space[path]:
                raise ValueError(f"a start point must say {path}: the run's own {value!r} is not in the space")
        return complete
