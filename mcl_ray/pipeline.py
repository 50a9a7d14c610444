"""From a name and overrides to what is to be trained: one run, or several that build on each other, `moco+lincls`.

A later stage freezes what the one before has trained, and classifies by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcl_ray.config import recipes
from mcl_ray.config.overrides import parse, replace
from mcl_ray.config.spec import CohortSpec, RunSpec
from mcl_ray.config.unused_fields import check_used
from mcl_ray.errors import CheckpointError, SpecError
from mcl_ray.object_store import Uri

SHARED = ("data.", "batch.", "compute.", "seed")
"""Fields that are the same in every stage, unless one is named with its stage: `lincls.batch.size=128`."""
SETTLED = ("cohort.", "pretraining", "linear.backbone")
"""Fields of a linear classification that follow from the run that it is built on."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One run as it was asked for."""

    base: RunSpec
    values: dict[str, Any] = field(default_factory=dict)
    """Fields to replace, by their full paths."""
    is_later: bool = False
    """Whether it builds on the stage before."""

    def resolved(self, source: Path | None) -> tuple[RunSpec, Path | None]:
        """The spec, and the checkpoint whose networks it freezes, if it does.

        Raises:
            SpecError: a rule is broken, or `source` is missing, or of no use.
            CheckpointError: there are no networks at `source` that the spec can freeze.
        """
        if source is None:
            return self._checked(replace(self.base, self.values)), None
        self.check_takes_networks()
        from mcl_ray.training.backbone import find_backbone

        found = find_backbone(source)
        cohort: dict[str, Any] = {}
        if found.pretraining is not None:
            cohort = found.pretraining.cohort.model_dump()
        elif found.num_peers is not None:
            cohort = {"size": found.num_peers, "sharing": "none"}
        settled = {f"cohort.{name}": value for name, value in cohort.items()}
        settled |= {"pretraining": found.pretraining, "linear.backbone": found.checksum}
        return self._used(replace(self.base, settled | self.values)), found.file.absolute()

    def expected(self, source: Path | None, before: CohortSpec | None) -> RunSpec:
        """The spec as far as it can be said before the stage before, whose cohort is `before`, has run."""
        if not self.is_later:
            return self.resolved(source)[0]
        self.check_takes_networks()
        settled = {f"cohort.{name}": value for name, value in (before.model_dump() if before else {}).items()}
        return self._used(replace(self.base, settled | self.values))

    def check_takes_networks(self) -> None:
        """Whether there is a use for another run's networks, and none but those are asked for.

        Raises:
            SpecError: there is none.
        """
        if self.base.method != "linear":
            raise SpecError(
                f"linear classification freezes the networks of another run, but {self.base.recipe} trains its own "
                f"(method={self.base.method})"
            )
        settled = [path for path in self.values if self.is_later and path.startswith(SETTLED)]
        if settled:
            raise SpecError(
                f"a stage that follows has the networks of the one before, so that {settled[0]} cannot be given: "
                f"{self.base.recipe}.{settled[0]}={self.values[settled[0]]}"
            )
        if "linear.backbone" in self.values:
            raise SpecError("linear.backbone is what the other run or checkpoint is, so that it cannot be given too")

    def _checked(self, spec: RunSpec) -> RunSpec:
        if spec.method == "linear" and spec.linear.backbone != "random":
            raise SpecError(
                "linear classification freezes networks: it needs --from with a run or a checkpoint, or "
                f"linear.backbone=random, but got no --from and linear.backbone={spec.linear.backbone or 'null'}"
            )
        return self._used(spec)

    def _used(self, spec: RunSpec) -> RunSpec:
        check_used(spec, self.values)
        return spec


def stages(name: str, overrides: Sequence[str]) -> list[Stage]:
    """What a name and overrides ask for. Fields that name no stage are of the first, and `SHARED` ones of all.

    Raises:
        SpecError: a name or a field that there is not, or a stage that cannot build on the one before.
    """
    names = name.split("+") if "+" in name and not Path(name).is_file() else [name]
    bases = [recipes.load(one) for one in names]
    if len(names) == 1:
        return [Stage(base=bases[0], values=parse(RunSpec, overrides))]
    if len(set(names)) < len(names):
        raise SpecError(f"each stage has a name of its own, but got {name}")
    values = {one: parse(RunSpec, given) for one, given in by_stage(names, overrides).items()}
    shared = {path: value for path, value in values[names[0]].items() if path.startswith(SHARED)}
    planned = [
        Stage(base=base, values=(shared if number else {}) | values[one], is_later=number > 0)
        for number, (one, base) in enumerate(zip(names, bases, strict=True))
    ]
    for later in planned[1:]:
        later.check_takes_networks()
    return planned


def by_stage(names: Sequence[str], overrides: Sequence[str]) -> dict[str, list[str]]:
    """Stage → its overrides, without its name; those that name no stage are of the first."""
    own: dict[str, list[str]] = {one: [] for one in names}
    for assignment in overrides:
        stage, dot, rest = assignment.partition(".")
        is_named = bool(dot) and stage in own
        own[stage if is_named else names[0]].append(rest if is_named else assignment)
    return own


def found_at(source: Path | Uri, results: Path) -> Path:
    """The run's folder or the checkpoint that --from names: a path, a run's id, or a folder in a store.

    Raises:
        CheckpointError: there is none.
    """
    if isinstance(source, Uri):
        return _fetched(source)
    by_id = results / "runs" / source
    found = source
    if not source.exists():
        found = _fetched_run(by_id)
    if not found.exists():
        raise CheckpointError(f"--from names a run or a checkpoint, but there is neither {source} nor {by_id}")
    return found


def _fetched_run(folder: Path) -> Path:
    """The run's folder, brought up to date where the results are in a store."""
    from mcl_ray.results.remote import pull

    pull.fetch(folder, checkpoints=True)
    return folder


def _fetched(source: Uri) -> Path:
    from mcl_ray.results.remote import pull

    folder = pull.pull_replica(source)
    pull.fetch(folder, checkpoints=True)
    return folder
