"""What a run would do, for `--dry-run`: the resolved spec, and its steps, parameters, multiply-adds and disk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from mcl_ray.catalog import DATASETS
from mcl_ray.data import cifar
from mcl_ray.data.sampling import ClassBalancedSampler, check_batches
from mcl_ray.data.source import dataset_for
from mcl_ray.environment import Environment
from mcl_ray.recipes import to_yaml
from mcl_ray.spec import RunSpec

BYTES_PER_PARAMETER = 8
"""A float32 weight and its momentum."""


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run would take."""

    data: str
    """Where the counts come from."""
    train_images: int
    classes: int
    steps_per_epoch: int
    steps: int
    parameters: int
    multiply_adds: int
    """Per image, one forward pass through the whole cohort, heads included."""
    disk_bytes: int
    """Of the checkpoints that stay."""


def plan_run(spec: RunSpec, environment: Environment) -> RunPlan:
    """Work a run out from the data set itself where it is there, else from its published counts.

    Raises:
        SpecError: the sampler cannot serve the batches.
        DataError: the data set is there, but damaged or not what its checksum says.
    """
    entry = DATASETS[spec.data.source]
    if spec.data.source == "digits" or cifar.is_present(environment.data):
        dataset = dataset_for(spec, environment.data)
        data, images, classes = "as it is here", len(dataset.train), dataset.num_classes
        shape, steps = (
            dataset.image_shape,
            ClassBalancedSampler(dataset.train.labels, spec.batch, spec.seed).num_batches,
        )
    else:
        data, classes, shape = f"not at {environment.data}: counts as published", entry.num_classes, entry.image_shape
        images = round(entry.num_train * (1 - spec.data.validation_fraction))
        check_batches(np.full(classes, images // classes), spec.batch)
        steps = images // spec.batch.size
    from mcl_ray.training.run import cost_of  # loads torch, which a bad batch is told without

    cost = cost_of(spec, classes, shape)
    return RunPlan(
        data=f"{spec.data.source} ({data})",
        train_images=images,
        classes=classes,
        steps_per_epoch=steps,
        steps=steps * spec.schedule.epochs,
        parameters=cost.parameters,
        multiply_adds=cost.multiply_adds,
        disk_bytes=environment.checkpoints_kept * cost.parameters * BYTES_PER_PARAMETER,
    )


def print_run_plan(spec: RunSpec, environment: Environment, console: Console) -> None:
    """Print the spec as the file that `mcl_ray.train` reads, and what it would do."""
    plan = plan_run(spec, environment)
    console.print(to_yaml(spec), end="", soft_wrap=True)
    console.print(facts_table(run_facts(plan) | {"runs": "1", "disk": disk(plan.disk_bytes)}))


def run_facts(plan: RunPlan) -> dict[str, str]:
    """The plan of one run in words."""
    return {
        "data": plan.data,
        "training images": f"{plan.train_images:,} in {plan.classes} classes",
        "steps": f"{plan.steps:,} ({plan.steps_per_epoch:,} an epoch)",
        "parameters": f"{plan.parameters:,}",
        "multiply-adds": f"{plan.multiply_adds:,} per image, forward",
    }


def facts_table(facts: dict[str, str]) -> Table:
    """Names and values in two columns."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in facts.items():
        table.add_row(f"# {name}", value)
    return table


def disk(size_bytes: int) -> str:
    """Bytes in words."""
    return f"{size_bytes / 1e6:,.1f} MB of checkpoints"
