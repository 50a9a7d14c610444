"""The spec of a suite: `SuiteSpec`, rows of a table that are listed, not searched; in a file or a stored record.

As no row is chosen by its score, every epoch may be scored on the test images, and all training images are trained on.
A suite without labels is followed by another, which trains linear classifiers on the networks of its rows:
`searches.linear_eval`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from mcl_ray.config import recipes
from mcl_ray.config.overrides import parse, replace
from mcl_ray.config.scoring import Scoring
from mcl_ray.config.spec import Count, RunSpec
from mcl_ray.config.spec_part import Part
from mcl_ray.config.unused_fields import check_used, check_used_by_any
from mcl_ray.errors import SpecError, unknown
from mcl_ray.pipeline import SETTLED, SHARED, by_stage
from searches.spec.base import ExperimentSpec
from searches.spec.fields import full_path
from searches.spec.space import Choice, Point, Space, Value, applied
from searches.spec.strategy import Direction, Outputs, SamplerSpec, SchedulerSpec, Strategy

SUITE_VERSION = 1
ROW = "row"
"""Name of the only field of a suite's points."""
OF_ALL_ROWS = ("version", "recipe", "plugins", "seed", "data", "evaluation", "schedule.epochs")

RowName = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")]


class Pretrained(Part):
    """A run whose networks are frozen for linear classification."""

    run: RunSpec
    """Spec of the run."""
    backbone: str | None
    """Checksum of its newest checkpoint, `sha256:…`; null: it has not run yet."""

    @property
    def settled(self) -> dict[str, Any]:
        """Fields of a linear classification that follow from it."""
        return {"cohort": self.run.cohort, "pretraining": self.run, "linear.backbone": self.backbone}


class Foundation(Part):
    """A suite that another one follows."""

    sweep: str
    """Id of its sweep."""
    runs: dict[RowName, tuple[Pretrained, ...]]
    """Row → its runs, one for each seed."""


class SuiteSpec(ExperimentSpec):
    """Rows of a table, each trained to its end with several seeds."""

    version: Annotated[int, Field(ge=1, le=SUITE_VERSION)] = SUITE_VERSION
    """Version of this format; a file from a newer one is refused."""
    name: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")] = "custom"
    """Name of the suite; its id adds a digest and a serial."""
    run: RunSpec
    """Spec that every row trains, apart from its own fields; a recipe's name stands for the recipe."""
    rows: Annotated[dict[RowName, dict[str, Value]], Field(min_length=1)]
    """Name of a row → its own fields of the run. Images, epochs and evaluation are the same for all."""
    table: Literal["cifar", "imagenet", "moco"] | None = None
    """Published table that the rows are compared with at the end; null: none."""
    repeats: Count = 1
    """Runs of every row, with the seeds run.seed, run.seed + 1 and so on."""
    then: RunSpec | None = None
    """Linear classification by the networks of each run, in a sweep that follows; a recipe's name stands for it."""
    built_on: Foundation | None = None
    """The suite that this one follows; the program fills it in."""

    kind: ClassVar[Literal["suite"]] = "suite"
    extensible: ClassVar[tuple[str, ...]] = ()

    @field_validator("run", "then", mode="before")
    @classmethod
    def _a_name_is_a_recipe(cls, run: object) -> object:
        if not isinstance(run, str):
            return run
        if run not in recipes.RECIPES:
            raise ValueError(unknown("recipe", run, recipes.RECIPES))
        return recipes.RECIPES[run]()

    @field_validator("run", "then")
    @classmethod
    def _every_epoch_is_scored_on_test(cls, run: RunSpec | None) -> RunSpec | None:
        held_out = 0.0 if run is None else run.data.validation_fraction
        if held_out:
            raise ValueError(
                "a suite chooses nothing, so that all training images are trained on: run.data.validation_fraction = 0 "
                f"must hold, but got {held_out}"
            )
        return None if run is None else replace(run, {"evaluation.test": "every_epoch"})

    @field_validator("rows")
    @classmethod
    def _fields_have_full_paths(cls, rows: dict[str, dict[str, Value]]) -> dict[str, dict[str, Value]]:
        full = {row: {full_path(name): value for name, value in fields.items()} for row, fields in rows.items()}
        for row, path in ((row, path) for row, fields in full.items() for path in fields):
            if path.split(".")[0] in OF_ALL_ROWS or path in OF_ALL_ROWS:
                raise ValueError(f"{path} is the same for all rows, but {row} has its own; give run.{path}")
        return full

    @model_validator(mode="after")
    def _what_follows_classifies(self) -> SuiteSpec:
        if self.then is None:
            return self
        if self.then.trains_networks or not self.run.trains_networks:
            raise ValueError(
                "what follows is linear classification (method=linear) of what was trained otherwise, but got "
                f"run.method={self.run.method} and then.method={self.then.method}"
            )
        if self.then.linear.backbone is not None:
            raise ValueError(
                "what follows has the networks of its row's run: then.linear.backbone = null must hold, but got "
                f"{self.then.linear.backbone}"
            )
        same = {"data": (self.then.data, self.run.data), "seed": (self.then.seed, self.run.seed)}
        different = [name for name, (following, first) in same.items() if following != first]
        if different:
            raise ValueError(f"what follows has the same images and seeds, but got another {', '.join(different)}")
        return self

    @model_validator(mode="after")
    def _what_is_classified_by_is_known(self) -> SuiteSpec:
        if self.built_on is not None:
            known = {row: len(runs) for row, runs in self.built_on.runs.items()}
            missing = [row for row in self.rows if known.get(row, 0) < self.repeats]
            if self.run.trains_networks or missing:
                raise ValueError(
                    f"built_on is of linear classification, with {self.repeats} runs for every row, but run.method="
                    f"{self.run.method}, and it has no such runs for {', '.join(missing) or 'none'}"
                )
        elif not self.run.trains_networks and self.run.linear.backbone != "random":
            raise ValueError(
                "rows of linear classification freeze networks: give what trains them as run, and the classification "
                f"as then, but got run.method=linear and run.linear.backbone={self.run.linear.backbone or 'null'}"
            )
        return self

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
    def objective(self) -> str:
        """Metric of the published tables; of peers without labels, the best peer's nearest-neighbour accuracy."""
        return f"test/{'top1' if self.run.is_supervised else 'knn_top1'}/best"

    @property
    def strategy(self) -> Strategy:
        """Strategy that runs every row to its last epoch, in order."""
        return Strategy(sampler=SamplerSpec(kind="grid"), scheduler=SchedulerSpec(kind="none"))

    @property
    def outputs(self) -> Outputs:
        """All checkpoints, and a study in the sweep's folder."""
        return Outputs()

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Direction of the objective."""
        return ("maximize",)

    @property
    def trials(self) -> int:
        """Number of rows."""
        return len(self.rows)

    @property
    def num_seeds(self) -> int:
        """Number of seeds of every row."""
        return self.repeats

    @property
    def num_confirmed(self) -> int:
        """Zero: nothing is selected, so that nothing is confirmed."""
        return 0

    @property
    def own_point(self) -> None:
        """None: the rows are compared with a published table."""

    def seed_runs(self, point: Point) -> tuple[RunSpec, ...]:
        """Return the runs of one row, one for each seed."""
        return self.trial_runs(point)

    @property
    def compared(self) -> Mapping[str, Point]:
        """Empty: the baselines of a suite are rows."""
        return {}

    @property
    def num_runs(self) -> int:
        """Number of runs: all rows with all seeds."""
        return self.trials * self.repeats

    @property
    def space(self) -> Space:
        """Names of the rows, sorted, as the record from which a suite is resumed does not keep their order."""
        return {ROW: Choice(kind="choice", values=tuple(sorted(self.rows)), when={})}

    @property
    def first_points(self) -> list[dict[str, Value]]:
        """All rows, in order."""
        return [{ROW: row} for row in self.rows]

    @property
    def scoring(self) -> Scoring:
        """Rule by which results are read."""
        return Scoring(repeats=self.repeats)

    @property
    def networks(self) -> tuple[str, ...]:
        """Networks of all rows, each once."""
        return tuple(dict.fromkeys(name for point in self.first_points for name in self.trial_run(point).cohort.peers))

    @property
    def batch_runs(self) -> list[RunSpec]:
        """Every run whose batches may differ: each row's, and the one that follows."""
        return [self.trial_run(point) for point in self.first_points] + ([self.then] if self.then else [])

    def trial_run(self, point: Point) -> RunSpec:
        """Return the run of one row, with the first seed.

        Raises:
            SpecError: its values are not valid together.
        """
        return self._of_seed(str(point[ROW]), 0)

    def trial_runs(self, point: Point) -> tuple[RunSpec, ...]:
        """Return the runs of one row, one for each seed."""
        return tuple(self._of_seed(str(point[ROW]), repeat) for repeat in range(self.repeats))

    def _of_seed(self, row: str, repeat: int) -> RunSpec:
        settled = self.built_on.runs[row][repeat].settled if self.built_on else {}
        return applied(replace(self.run, settled | {"seed": self.run.seed + repeat}), self.rows[row])

    def with_overrides(self, overrides: Sequence[str]) -> SuiteSpec:
        """Return a copy with fields replaced, given as `field=value`; those of the run in every row.

        Fields of the run that follows have its name before them, or `then`: `lincls.lr=1`.

        Raises:
            SpecError: a rule is broken, or a field has no effect.
        """
        first, follows = self.run.recipe, self.then.recipe if self.then else ""
        stages = [first, *(name for name in (follows, "then") if self.then and name != first)]
        own = by_stage(stages, overrides)
        values = parse(SuiteSpec, own.pop(first))
        following = parse(RunSpec, [assignment for stage in own.values() for assignment in stage])
        changed = self.with_fields(values, following)
        own_paths = [path.removeprefix("run.") for path in values if path.startswith("run.")]
        check_used_by_any([changed.trial_run(point) for point in changed.first_points], own_paths)
        if changed.then is not None:
            check_used(changed.then, following)
        return changed

    def with_more_trials(self, trials: int) -> SuiteSpec:
        """Raise an error, as a suite has one trial for each row.

        Raises:
            SpecError: always.
        """
        raise SpecError(f"a suite has one trial for each of its {self.trials} rows, but was asked for {trials} more")

    def with_fields(self, values: Mapping[str, Any], following: Mapping[str, Any] = MappingProxyType({})) -> SuiteSpec:
        """Return a copy with fields replaced.

        Args:
            values: By full path. Those of the run are of every row, and of what follows where all stages share them; a
                list for `rows` takes those it names.
            following: Fields of the run that follows, by their paths in it.

        Raises:
            SpecError: the rule that the new values break.
        """
        values = dict(values)
        self._check_fields(values, following)
        rows = self._chosen(values.pop("rows")) if isinstance(values.get("rows"), list) else self.rows
        of_all = {path.removeprefix("run."): value for path, value in values.items()}
        kept = {row: {path: own for path, own in rows[row].items() if path not in of_all} for row in rows}
        if self.then is not None:
            shared = {path: value for path, value in of_all.items() if path.startswith(SHARED)}
            values = {"then": replace(self.then, shared | dict(following))} | values
        return replace(self, {"rows": kept} | values)

    def _check_fields(self, values: Mapping[str, Any], following: Mapping[str, Any]) -> None:
        """Refuse values that contradict what a suite is."""
        if (when := values.get("run.evaluation.test", "every_epoch")) != "every_epoch":
            raise SpecError(
                f"a suite scores every epoch on test: run.evaluation.test=every_epoch must hold, but got {when}"
            )
        if "then" in values and following:
            raise SpecError(
                f"what follows is given whole, as then, or field by field, but got {', '.join(following)} too"
            )
        settled = [path for path in following if path.startswith(SETTLED)]
        if settled:
            raise SpecError(f"what follows has the networks of its row's run, so that {settled[0]} cannot be given")

    def _chosen(self, patterns: Sequence[object]) -> dict[str, dict[str, Value]]:
        """Return the rows whose names match one of the patterns, `resnet32_*`, in their order."""
        for pattern in map(str, patterns):
            if not any(fnmatchcase(row, pattern) for row in self.rows):
                raise SpecError(unknown("row", pattern, self.rows))
        return {
            row: own for row, own in self.rows.items() if any(fnmatchcase(row, str(pattern)) for pattern in patterns)
        }
