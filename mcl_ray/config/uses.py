"""Fields of a run that have an effect only with certain settings of others, as a table.

Specs decide by it which fields count in a digest, searches which they sample, commands which they refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Use(NamedTuple):
    """The condition under which fields have an effect."""

    fields: tuple[str, ...]
    """Full paths; one that ends in a dot stands for all fields below it."""
    holds: Callable[[Any], bool]
    """The condition on a `RunSpec`."""
    when: str
    """The condition in words, for error messages; begins with `field=`."""


_DECODED_AUGMENTATION = ("augmentation.min_area", "augmentation.views")
USES = (
    Use(("bank.",), lambda run: run.has_effect_on("bank."), "method=supervised_bank"),
    Use(("queue.",), lambda run: run.has_effect_on("queue."), "method=moco"),
    Use(("linear.",), lambda run: run.has_effect_on("linear."), "method=linear"),
    Use(("evaluation.neighbours", "evaluation.neighbour_images"), lambda run: not run.is_supervised, "method=moco"),
    Use(
        ("losses.tau", "losses.temperature", "cohort.embedding_dim", "cohort.head", "compute.compile"),
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
