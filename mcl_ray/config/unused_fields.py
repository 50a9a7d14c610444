"""Which fields of a run do something, given the others: one that would do nothing is told, not taken in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import SpecError


class Use(NamedTuple):
    """When fields do something."""

    fields: tuple[str, ...]
    """Full paths; one that ends in a dot stands for all below it."""
    holds: Callable[[RunSpec], bool]
    when: str
    """The same in words, with the fields it depends on."""


_OF_DECODED = ("augmentation.min_area", "augmentation.views")
USES = (
    Use(("bank.",), lambda run: run.method == "supervised_bank", "method=supervised_bank"),
    Use(("queue.",), lambda run: run.method == "moco", "method=moco"),
    Use(("linear.",), lambda run: run.method == "linear", "method=linear"),
    Use(("evaluation.neighbours", "evaluation.neighbour_images"), lambda run: run.method == "moco", "method=moco"),
    Use(
        ("losses.tau", "losses.temperature", "cohort.embedding_dim", "cohort.head"),
        lambda run: run.method != "linear",
        "method=supervised, supervised_bank or moco",
    ),
    Use(("losses.contrast",), lambda run: run.method == "supervised", "method=supervised"),
    Use(("data.checksum",), lambda run: run.data.source == "cifar", "data.source=cifar"),
    Use(
        ("data.image_column", "data.label_column", "data.split_column"),
        lambda run: run.data.source == "parquet",
        "data.source=parquet",
    ),
    Use(
        ("data.image_size", "data.unreadable", "data.untested_classes", *_OF_DECODED),
        lambda run: run.data.is_encoded,
        "data.source=folder or parquet",
    ),
    Use(("augmentation.crop_padding",), lambda run: not run.data.is_encoded, "data.source=cifar or digits"),
    Use(("batch.per_class",), lambda run: run.batch.sampler != "shuffled", "batch.sampler=balanced or reference"),
    Use(("schedule.factor",), lambda run: run.schedule.kind == "multistep", "schedule.kind=multistep"),
)


def check_used(run: RunSpec, paths: Iterable[str]) -> None:
    """Whether fields that somebody set do something in this run.

    Raises:
        SpecError: one of them does nothing.
    """
    check_used_by_any([run], paths)


def check_used_by_any(runs: Sequence[RunSpec], paths: Iterable[str]) -> None:
    """Whether fields that somebody set for several runs do something in one of them.

    Raises:
        SpecError: one of them does nothing in any.
    """
    for path in paths:
        refusals = [_refusal(run, path) for run in runs]
        if None not in refusals:
            raise SpecError(str(refusals[0]))


def _refusal(run: RunSpec, path: str) -> str | None:
    """Why a field does nothing in a run; None where it does something."""
    for use in USES:
        if path.startswith(use.fields) and not use.holds(run):
            other = use.when.partition("=")[0]
            return f"{path} does something where {use.when}, but {other} is {_value(run, other)}: leave it out"
    return None


def _value(run: RunSpec, path: str) -> object:
    value: object = run
    for name in path.split("."):
        value = getattr(value, name)
    return value
