"""What to train for a table: `SuiteSpec`, rows that are listed, not searched; file, command line and stored record.

A suite has what the engine asks of a search, with nothing to propose, to stop early or to choose. As no row is chosen
by its figure, every epoch may be scored on the test images, and all training images are trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from mcl_ray import recipes
from mcl_ray.errors import SpecError, unknown
from mcl_ray.overrides import replace
from mcl_ray.results.score import Scoring
from mcl_ray.spec import Count, Part, RunSpec
from searches.fields import full_path
from searches.space import Choice, Point, Space, Value, applied
from searches.spec import Direction
from searches.strategy import Cost, SamplerSpec, SchedulerSpec

SUITE_VERSION = 1
ROW = "row"
"""The only field of a suite's points."""
OF_ALL_ROWS = ("version", "recipe", "seed", "data", "evaluation", "schedule.epochs")

RowName = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")]


class SuiteSpec(Part):
    """Rows of a table, each trained to its end with several seeds."""

    version: Annotated[int, Field(ge=1, le=SUITE_VERSION)] = SUITE_VERSION
    """Version of this format; a file from a newer one is refused."""
    name: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")] = "custom"
    """What the suite is called; its id adds a digest and a serial."""
    run: RunSpec
    """What every row trains, apart from its own fields; a recipe's name stands for the recipe."""
    rows: Annotated[dict[RowName, dict[str, Value]], Field(min_length=1)]
    """Name of a row → its own fields of the run. Images, epochs and evaluation are the same for all."""
    table: Literal["cifar", "imagenet", "moco"] | None = None
    """Published table that the rows are set beside at the end; null: none."""
    repeats: Count = 1
    """Runs of every row, with the seeds run.seed, run.seed + 1 and so on."""

    objective: ClassVar[str] = "test/top1/best"
    costs: ClassVar[tuple[Cost, ...]] = ()
    directions: ClassVar[tuple[Direction, ...]] = ("maximize",)
    sampler: ClassVar[SamplerSpec] = SamplerSpec(kind="grid")
    scheduler: ClassVar[SchedulerSpec] = SchedulerSpec(kind="none")
    warm_start: ClassVar[tuple[str, ...]] = ()
    keep_checkpoints: ClassVar[int | None] = None
    study: ClassVar[str | None] = None
    time_limit_s: ClassVar[float | None] = None

    @field_validator("run", mode="before")
    @classmethod
    def _a_name_is_a_recipe(cls, run: object) -> object:
        if not isinstance(run, str):
            return run
        if run not in recipes.RECIPES:
            raise ValueError(unknown("recipe", run, recipes.RECIPES))
        return recipes.RECIPES[run]()

    @field_validator("run")
    @classmethod
    def _every_epoch_is_scored_on_test(cls, run: RunSpec) -> RunSpec:
        held_out = run.data.validation_fraction
        if held_out:
            raise ValueError(
                "a suite chooses nothing, so that all training images are trained on: run.data.validation_fraction = 0 "
                f"must hold, but got {held_out}"
            )
        return replace(run, {"evaluation.test": "every_epoch"})

    @field_validator("rows")
    @classmethod
    def _fields_have_full_paths(cls, rows: dict[str, dict[str, Value]]) -> dict[str, dict[str, Value]]:
        full = {row: {full_path(name): value for name, value in fields.items()} for row, fields in rows.items()}
        for row, path in ((row, path) for row, fields in full.items() for path in fields):
            if path.split(".")[0] in OF_ALL_ROWS or path in OF_ALL_ROWS:
                raise ValueError(f"{path} is the same for all rows, but {row} has its own; give run.{path}")
        return full

    @model_validator(mode="after")
    def _rows_are_unlike_runs(self) -> SuiteSpec:
        names: dict[RunSpec, str] = {}
        for row in self.rows:
            try:
                run = self.trial_run({ROW: row})
            except SpecError as error:
                raise ValueError(f"row {row}: {error}") from error
            if run in names:
                raise ValueError(f"no two rows train the same, but {names[run]} and {row} do; rows=[…] takes some")
            names[run] = row
        if self.run.seed + self.repeats > 2**32:
            raise ValueError(
                f"run.seed + repeats <= 2**32 must hold, but got seed={self.run.seed}, repeats={self.repeats}"
            )
        return self

    @property
    def trials(self) -> int:
        """One for each row."""
        return len(self.rows)

    @property
    def num_runs(self) -> int:
        """Runs of all rows with all seeds."""
        return self.trials * self.repeats

    @property
    def space(self) -> Space:
        """The rows' names, sorted: a record, which a suite goes on from, does not keep their order."""
        return {ROW: Choice(kind="choice", values=tuple(sorted(self.rows)), when={})}

    @property
    def first_points(self) -> list[dict[str, Value]]:
        """Every row, in order."""
        return [{ROW: row} for row in self.rows]

    @property
    def scoring(self) -> Scoring:
        """How results are read."""
        return Scoring(repeats=self.repeats)

    @property
    def networks(self) -> tuple[str, ...]:
        """Of all rows, each once."""
        return tuple(dict.fromkeys(name for point in self.first_points for name in self.trial_run(point).cohort.peers))

    def trial_run(self, point: Point) -> RunSpec:
        """The run of one row, with the first seed.

        Raises:
            SpecError: its values do not go together.
        """
        return applied(self.run, self.rows[str(point[ROW])])

    def trial_runs(self, point: Point) -> tuple[RunSpec, ...]:
        """The runs of one row, one a seed."""
        first = self.trial_run(point)
        return tuple(replace(first, {"seed": first.seed + repeat}) for repeat in range(self.repeats))

    def with_fields(self, values: Mapping[str, Any]) -> SuiteSpec:
        """A copy with fields replaced, those of the run in every row; a list for `rows` takes those it names.

        Raises:
            SpecError: the rule that the new values break.
        """
        values = dict(values)
        rows = self._chosen(values.pop("rows")) if isinstance(values.get("rows"), list) else self.rows
        of_all = {path.removeprefix("run.") for path in values}
        kept = {row: {path: own for path, own in rows[row].items() if path not in of_all} for row in rows}
        return replace(self, {"rows": kept} | values)

    def _chosen(self, patterns: Sequence[object]) -> dict[str, dict[str, Value]]:
        """The rows whose names match one of the patterns, `resnet32_*`, in their order."""
        for pattern in map(str, patterns):
            if not any(fnmatchcase(row, pattern) for row in self.rows):
                raise SpecError(unknown("row", pattern, self.rows))
        return {
            row: own for row, own in self.rows.items() if any(fnmatchcase(row, str(pattern)) for pattern in patterns)
        }
