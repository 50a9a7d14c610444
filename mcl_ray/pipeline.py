"""The stages of a run or of a pipeline, resolved from a name and overrides: `digits`, or `moco+lincls`.

A later stage of a pipeline freezes the networks that the stage before has trained, and trains classifiers on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mcl_ray.config import recipes
from mcl_ray.config.overrides import parse, replace
from mcl_ray.config.part_modules import with_plugins
from mcl_ray.config.plugins import import_plugins
from mcl_ray.config.spec import CohortSpec, RunSpec
from mcl_ray.config.unused_fields import check_used
from mcl_ray.errors import CheckpointError, SpecError
from mcl_ray.object_store import Uri

SHARED = ("data.", "batch.", "compute.", "seed", "plugins")
"""Fields that every stage takes from the first, unless one is named with its stage: `lincls.batch.size=128`."""
SETTLED = ("cohort.", "pretraining", "linear.backbone")
"""Fields of a linear classification that follow from the run that it builds on."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One run of a pipeline, before the run that it builds on is known."""

    base: RunSpec
    values: dict[str, Any] = field(default_factory=dict)
    """Fields to replace, by their full paths."""
    is_later: bool = False
    """True if it builds on the stage before; False for the first stage."""

    def resolved(self, source: Path | None) -> tuple[RunSpec, Path | None]:
        """Return the spec, and the checkpoint whose networks it freezes, or None.

        Args:
            source: Folder of the run, or checkpoint file, that has the networks; None if the stage needs none.

        Raises:
            SpecError: a rule is broken, or `source` is missing, or cannot be used by this stage.
            CheckpointError: `source` has no networks that the spec can freeze.
        """
        if source is None:
            return self._checked(replace(self.base, self.values)), None
        self.check_takes_networks()
        from mcl_ray.training.backbone import find_backbone

        found = find_backbone(source)
        cohort: dict[str, Any] = {}
        if found.pretraining is not None:
            import_plugins(found.pretraining.plugins)
            cohort = found.pretraining.cohort.model_dump()
        elif found.num_peers is not None:
            cohort = {"size": found.num_peers, "sharing": "none"}
        inherited = {f"cohort.{name}": value for name, value in cohort.items()}
        inherited |= {"pretraining": found.pretraining, "linear.backbone": found.checksum}
        return self._used(replace(self.base, inherited | self.values)), found.file.absolute()

    def expected(self, source: Path | None, before: CohortSpec | None) -> RunSpec:
        """Return the spec as far as it is known before the stage before, whose cohort is `before`, has run."""
        if not self.is_later:
            return self.resolved(source)[0]
        self.check_takes_networks()
        inherited = {f"cohort.{name}": value for name, value in (before.model_dump() if before else {}).items()}
        return self._used(replace(self.base, inherited | self.values))

    def check_takes_networks(self) -> None:
        """Check that the stage freezes the networks of another run, and that no field names other networks.

        Raises:
            SpecError: it does not, or a field does.
        """
        if self.base.trains_networks:
            raise SpecError(
                f"linear classification freezes the networks of another run, but {self.base.recipe} trains its own "
                f"(method={self.base.method})"
            )
        given = [path for path in self.values if self.is_later and path.startswith(SETTLED)]
        if given:
            raise SpecError(
                f"a later stage has the networks of the stage before, so that {given[0]} cannot be given, but got "
                f"{self.base.recipe}.{given[0]}={self.values[given[0]]}"
            )
        if "linear.backbone" in self.values:
            raise SpecError("linear.backbone follows from the run or checkpoint that is given, and cannot be given too")

    def _checked(self, spec: RunSpec) -> RunSpec:
        if not spec.trains_networks and spec.linear.backbone != "random":
            raise SpecError(
                "linear classification freezes networks: it needs --from with a run or a checkpoint, or "
                f"linear.backbone=random, but got no --from and linear.backbone={spec.linear.backbone or 'null'}"
            )
        return self._used(spec)

    def _used(self, spec: RunSpec) -> RunSpec:
        check_used(spec, self.values)
        return with_plugins(spec, spec.model_dump())


def stages(name: str | RunSpec, overrides: Sequence[str]) -> list[Stage]:
    """Return the stages that a name and overrides describe.

    Args:
        name: A recipe, several joined by `+`, a spec file's path, or a spec.
        overrides: Fields as `field=value`. Those that name no stage belong to the first, and `SHARED` ones to all.

    Raises:
        SpecError: a name or a field is unknown, or a stage cannot build on the one before.
    """
    if isinstance(name, RunSpec):
        return [Stage(base=name, values=parse(RunSpec, overrides))]
    names = name.split("+") if "+" in name and not Path(name).is_file() else [name]
    bases = [recipes.load(one) for one in names]
    if len(names) == 1:
        return [Stage(base=bases[0], values=parse(RunSpec, overrides))]
    if len(set(names)) < len(names):
        raise SpecError(f"the names of stages must differ, but got {name}")
    values = {one: parse(RunSpec, given) for one, given in by_stage(names, overrides).items()}
    shared = {path: value for path, value in values[names[0]].items() if path.startswith(SHARED)}
    result = [
        Stage(base=base, values=(shared if number else {}) | values[one], is_later=number > 0)
        for number, (one, base) in enumerate(zip(names, bases, strict=True))
    ]
    for later in result[1:]:
        later.check_takes_networks()
    return result


def import_named_plugins(named: str | BaseModel, overrides: Sequence[str]) -> None:
    """Import the plugins of a spec, search or suite before it is loaded, so that their parts are known.

    Args:
        named: its name, the path of its file, or itself.
        overrides: Fields as `field=value`, of which those that end in `plugins` are looked at.

    Raises:
        SpecError: one cannot be imported, or they are no names of modules.
    """
    import_plugins(getattr(named, "plugins", ()) if isinstance(named, BaseModel) else recipes.plugins_of_file(named))
    for name, _, value in (one.partition("=") for one in overrides):
        if name.strip().split(".")[-1] == "plugins":
            import_plugins(replace(RunSpec(), parse(RunSpec, [f"plugins={value}"])).plugins)


def by_stage(names: Sequence[str], overrides: Sequence[str]) -> dict[str, list[str]]:
    """Return stage → its overrides, without the stage's name; those that name no stage belong to the first."""
    own: dict[str, list[str]] = {one: [] for one in names}
    for assignment in overrides:
        stage, dot, rest = assignment.partition(".")
        is_named = bool(dot) and stage in own
        own[stage if is_named else names[0]].append(rest if is_named else assignment)
    return own


def found_at(source: Path | Uri, results: Path) -> Path:
    """Return the run's folder or the checkpoint that `--from` names: a path, a run's id, or a folder in a store.

    Raises:
        CheckpointError: neither exists.
    """
    if isinstance(source, Uri):
        return _fetched(source)
    by_id = results / "runs" / source
    found = source
    if not source.exists():
        found = _fetched_run(by_id)
    if not found.exists():
        raise CheckpointError(f"`--from` names a run or a checkpoint, but neither {source} nor {by_id} exists")
    return found


def _fetched_run(folder: Path) -> Path:
    """Return the run's folder, updated if the results are in a store."""
    from mcl_ray.results.remote import pull

    pull.fetch(folder, checkpoints=True)
    return folder


def _fetched(source: Uri) -> Path:
    from mcl_ray.results.remote import pull

    folder = pull.pull_replica(source)
    pull.fetch(folder, checkpoints=True)
    return folder
