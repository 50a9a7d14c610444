"""Fields of a run that have an effect only with certain settings of others: setting one without effect is an error.

Those whose effect depends on numbers, as weights of zero, are in `effects.py`; they may be set in any run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import SpecError


class Use(NamedTuple):
    """The condition under which fields have an effect."""

    fields: tuple[str, ...]
    """Full paths; one that ends in a dot stands for all fields below it."""
    holds: Callable[[RunSpec], bool]
    """The condition."""
    when: str
    """The condition in words, for error messages; begins with `field=`."""


_DECODED_AUGMENTATION = ("augmentation.min_area", "augmentation.views")
USES = (
    Use(("bank.",), lambda run: run.has_effect_on("bank."), "method=supervised_bank"),
    Use(("queue.",), lambda run: run.has_effect_on("queue."), "method=moco"),
    Use(("linear.",), lambda run: run.has_effect_on("linear."), "method=linear"),
    Use(("evaluation.neighbours", "evaluation.neighbour_images"), lambda run: not run.is_supervised, "method=moco"),
    Use(
        ("losses.tau", "losses.temperature", "cohort.embedding_dim", "cohort.head"),
        lambda run: run.trains_networks,
        "method=supervised, supervised_bank or moco",
    ),
    Use(("losses.extra",), lambda run: run.method_entry.has_grid, "method=supervised or supervised_bank"),
    Use(("losses.contrast",), lambda run: run.method_entry.contrasts_locally, "method=supervised"),
    Use(("data.checksum",), lambda run: run.data.source.startswith("cifar"), "data.source=cifar or cifar10"),
    Use(
        ("data.image_column", "data.label_column", "data.split_column"),
        lambda run: run.data.source == "parquet",
        "data.source=parquet",
    ),
    Use(
        ("data.image_size", "data.orientation", "data.unreadable", "data.untested_classes", *_DECODED_AUGMENTATION),
        lambda run: run.data.is_encoded,
        "data.source=folder or parquet",
    ),
    Use(
        ("augmentation.crop_padding",),
        lambda run: not run.data.is_encoded,
        "data.source=cifar, or another source of images in memory",
    ),
    Use(("batch.per_class",), lambda run: run.batch.sampler != "shuffled", "batch.sampler=balanced or reference"),
    Use(("schedule.factor",), lambda run: run.schedule.kind == "multistep", "schedule.kind=multistep"),
)


def check_used(run: RunSpec, paths: Iterable[str]) -> None:
    """Check that the fields which a user set have an effect in this run.

    Args:
        run: the spec with these fields set.
        paths: full paths of the fields.

    Raises:
        SpecError: one of them has no effect.
    """
    check_used_by_any([run], paths)


def check_used_by_any(runs: Sequence[RunSpec], paths: Iterable[str]) -> None:
    """Check that each field which a user set for several runs has an effect in at least one of them.

    Args:
        runs: the specs with these fields set.
        paths: full paths of the fields.

    Raises:
        SpecError: one of them has no effect in any of the runs.
    """
    for path in paths:
        problems = [_unused_message(run, path) for run in runs]
        if None not in problems:
            raise SpecError(str(problems[0]))


def _unused_message(run: RunSpec, path: str) -> str | None:
    """Return the error message for a field without effect in a run; None if it has an effect."""
    if not run.has_known_method:  # a plugin that was not imported has it
        return None
    for use in USES:
        if path.startswith(use.fields) and not use.holds(run):
            other = use.when.partition("=")[0]
            return f"{path} requires {use.when}, but got {other}={_value(run, other)}; leave {path} out"
    return None


def _value(run: RunSpec, path: str) -> object:
    value: object = run
    for name in path.split("."):
        value = getattr(value, name)
    return value
