"""What a suite would do and cost, for `--dry-run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from mcl_ray.config.environment import Environment
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.config.spec import RunSpec
from mcl_ray.reports.dry_run import disk, memory, print_facts, workers_fact
from mcl_ray.training.estimate import RunEstimate, estimate_run
from searches.linear_eval import planned_follower
from searches.spec.suite import ROW, SuiteSpec

PASSES = {"linear": 1, "moco": 4}
"""Times the forward pass of all peers, by method: a backward pass is taken for two, which linear classification does
without, and key encoders have a forward pass of their own."""
FORWARD_AND_BACKWARD = 3
"""Of the other methods."""


@dataclass(frozen=True, kw_only=True)
class RowPlan:
    """One row with all its seeds."""

    run: RunSpec
    plan: RunEstimate
    """Of one seed."""
    repeats: int

    @property
    def steps(self) -> int:
        """Of all seeds."""
        return self.repeats * self.plan.steps

    @property
    def passes(self) -> int:
        """Forward passes that a step takes as long as."""
        return PASSES.get(self.run.method, FORWARD_AND_BACKWARD)

    @property
    def multiply_adds(self) -> int:
        """Of all seeds' training, estimated."""
        return self.passes * self.steps * self.run.batch.size * self.plan.multiply_adds

    @property
    def disk_bytes(self) -> int:
        """Of all seeds."""
        return self.repeats * self.plan.disk_bytes


def plan_suite(suite: SuiteSpec, environment: Environment, workers: tuple[int, int] = (1, 1)) -> dict[str, RowPlan]:
    """Every row's name → what it would take.

    Raises:
        SpecError: the sampler cannot serve a row's batches.
        DataError: the data set is there, but damaged or not what its checksum says.
    """
    plans: dict[RunSpec, RunEstimate] = {}
    rows: dict[str, RowPlan] = {}
    for row in suite.rows:
        run = suite.trial_run({ROW: row})
        alike = run.model_copy(update={"losses": suite.run.losses})  # which cost nothing that a plan counts
        if alike not in plans:
            plans[alike] = estimate_run(run, environment, workers)
        rows[row] = RowPlan(run=run, plan=plans[alike], repeats=suite.repeats)
    return rows


def print_suite_plan(suite: SuiteSpec, execution: ExecutionOptions, console: Console) -> None:
    """Print the suite as the file that `mcl_ray.sweep table` reads, and what its rows would do."""
    console.print(yaml.safe_dump(suite.model_dump(mode="json"), sort_keys=False), end="", soft_wrap=True)
    _print_costs(suite, execution, console)
    if suite.then is not None:
        following = planned_follower(suite)
        console.print(f"# then {following.name}, by the networks of each run")
        _print_costs(following, execution, console)


def _print_costs(suite: SuiteSpec, execution: ExecutionOptions, console: Console) -> None:
    """What all rows take, as comments."""
    workers = execution.group
    rows = plan_suite(suite, execution.environment(), workers or (1, 1))
    print_facts(_facts(suite, execution, rows) | workers_fact(suite.run.batch.size, workers), console)
    console.print(_table(rows))


def _facts(suite: SuiteSpec, execution: ExecutionOptions, rows: Mapping[str, RowPlan]) -> dict[str, str]:
    """The suite in words."""
    first = next(iter(rows.values())).plan
    largest = max(rows, key=lambda row: rows[row].plan.state_bytes + rows[row].plan.activation_bytes)
    seeds = ", ".join(map(str, (suite.run.seed + repeat for repeat in range(suite.repeats))))
    unit = "row" if execution.workers is None else "worker"
    passes = next(iter(rows.values())).passes
    times = f"{passes} times those" if passes > 1 else "those"
    multiply_adds = sum(row.multiply_adds for row in rows.values())
    return {
        "rows": f"{suite.trials}, of {suite.run.schedule.epochs} epochs, all of them trained and tested",
        "runs": f"{suite.num_runs}: {suite.trials} rows × {suite.repeats} (seed {seeds}), "
        f"{execution.cpus_per_worker} CPU a {unit}",
        "data": first.data,
        "training images": f"{first.train_images:,} in {first.classes} classes",
        "steps": f"{sum(row.steps for row in rows.values()):,}",
        "multiply-adds": f"{multiply_adds:.2e} of training, estimated as {times} of the forward passes; scoring on "
        "test comes on top",
        "disk": f"{disk(sum(row.disk_bytes for row in rows.values()))}, which all stay",
        "largest row": largest,
        "memory": memory(rows[largest].plan, suite.repeats),
    }


def _table(rows: Mapping[str, RowPlan]) -> Table:
    """One line for each row, of all its seeds; as comments, like the facts above them."""
    columns: dict[str, Any] = {
        "steps": lambda row: f"{row.steps:,}",
        "parameters": lambda row: f"{row.plan.parameters:,}",
        "multiply-adds, one image forward": lambda row: f"{row.plan.multiply_adds:,}",
        "of training": lambda row: f"{row.multiply_adds:.2e}",
        "disk, MB": lambda row: f"{row.disk_bytes / 1e6:,.1f}",
    }
    table = Table(box=None, pad_edge=False)
    table.add_column("# row", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    for name, row in rows.items():
        table.add_row(f"# {name}", *(told(row) for told in columns.values()))
    return table
