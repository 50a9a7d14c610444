"""The output of `--dry-run`: the resolved search or suite as a file, with its estimate in comments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from mcl_ray.analysis.roles import PUBLISHED
from mcl_ray.config import yaml12
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.config.spec import RunSpec
from mcl_ray.reports.dry_run import (
    comment_lines,
    describe_estimate,
    describe_workers,
    disk_text,
    memory_text,
    wall_time_text,
)
from searches.spec.experiment import Experiment, Kind

if TYPE_CHECKING:
    from mcl_ray.training.estimate import RunEstimate
    from searches.estimate import SweepEstimate
    from searches.spec.sweep import SweepSpec
    from searches.suite_estimate import RowEstimate, SuiteEstimate


def print_estimate(estimate: SweepEstimate | SuiteEstimate, execution: ExecutionOptions, console: Console) -> None:
    """Print the experiment as the file that `mcl_ray.sweep` reads, and its estimate."""
    experiment: Experiment = estimate.experiment
    console.print(yaml12.dump(experiment.model_dump(mode="json")), end="", soft_wrap=True)
    _PRINTERS[experiment.kind](estimate, execution, console)


def _print_sweep(estimate: SweepEstimate, execution: ExecutionOptions, console: Console) -> None:
    sweep, largest, run, workers = estimate.experiment, estimate.largest, estimate.run, execution.group
    peers = ", ".join(dict.fromkeys(largest.cohort.peers))
    facts = _search_facts(sweep, execution) | describe_workers(largest.batch.size, workers, run)
    if estimate.warm_start:
        facts["warm start"] = "; ".join(map(str, estimate.warm_start))
    facts["largest run"] = (
        f"{largest.cohort.size} peers ({peers}), batches of {largest.batch.size}, up to {largest.schedule.epochs} "
        "epochs; each figure below is the largest of any trial"
    )
    facts |= describe_estimate(run) | {
        "memory": memory_text(run, sweep.repeats, execution.pack_size),
        "steps in all": f"at most {estimate.steps:,}",
        "disk": f"at most {disk_text(estimate.disk_bytes)} at the end",
        "wall time": f"at most {_wall_time(largest, run, execution, _work(largest, run) * sweep.num_runs)}",
    }
    console.print(comment_lines(facts), end="", soft_wrap=True)


def _work(run: RunSpec, estimate: RunEstimate) -> int:
    """Return the multiply-adds of training one run."""
    images = estimate.train_images * run.schedule.epochs
    return run.method_entry.passes * images * estimate.multiply_adds


def _wall_time(run: RunSpec, estimate: RunEstimate, execution: ExecutionOptions, multiply_adds: int) -> str:
    """Return the wall time of training on this machine, by the speed of this run's cohort."""
    from mcl_ray.training.timing import multiply_adds_per_second, runs_at_once

    cpus = execution.cpus_per_worker
    speed = multiply_adds_per_second(run, estimate, execution.device, cpus)
    return wall_time_text(multiply_adds, speed, runs_at_once(execution.device, cpus))


def _search_facts(sweep: SweepSpec, execution: ExecutionOptions) -> dict[str, str]:
    points, scheduler = sweep.first_points, sweep.scheduler.kind
    seeds = f"seeds {sweep.seeds[0]} to {sweep.seeds[-1]}, scored by their {sweep.score.kind}"
    unit = "trial" if execution.workers is None else "worker"
    facts = {
        "runs": f"at most {sweep.num_runs}: {sweep.trials} trials × {sweep.repeats}, and what follows them, "
        f"{execution.cpus_per_worker} CPU a {unit}",
        "repeats": f"{sweep.repeats} ({seeds})" if sweep.repeats > 1 else "1",
        "confirmation": _confirmation(sweep),
        "baseline": f"{sweep.baseline}, {sweep.num_seeds} seeds" if sweep.baseline else "",
        "maximised": sweep.objective,
        "minimised": ", ".join(sweep.costs),
        "sampler": f"{sweep.sampler.kind}; start points: {min(len(points), sweep.trials)}",
        "first point": str(points[0]) if points else "drawn by the sampler",
        "scheduler": scheduler,
    }
    if scheduler != "none":
        facts["scheduler"] += (
            f": {sweep.scheduler.grace_epochs} epochs for all, then one in {sweep.scheduler.reduction_factor} continues"
        )
    return {name: value for name, value in facts.items() if value}


def _confirmation(sweep: SweepSpec) -> str:
    if not sweep.num_confirmed:
        return "none"
    own = " and the run's own values" if sweep.own_point is not None or PUBLISHED in sweep.compared else ""
    return f"the best {sweep.num_confirmed}{own}, to {sweep.num_seeds} seeds each"


def _print_suite(estimate: SuiteEstimate, execution: ExecutionOptions, console: Console) -> None:
    workers, suite = execution.group, estimate.experiment
    rows = estimate.rows
    largest = rows[_largest(rows)]
    facts = _suite_facts(estimate, execution)
    facts |= describe_workers(suite.run.batch.size, workers, largest.estimate)
    console.print(comment_lines(facts), end="", soft_wrap=True)
    console.print(_rows_table(rows))
    if estimate.following is not None:
        console.print(f"# then {estimate.following.experiment.name}, by the networks of each run")
        _print_suite(estimate.following, execution, console)


def _suite_facts(estimate: SuiteEstimate, execution: ExecutionOptions) -> dict[str, str]:
    suite, rows = estimate.experiment, estimate.rows
    first = next(iter(rows.values()))
    largest = _largest(rows)
    seeds = ", ".join(map(str, (suite.run.seed + repeat for repeat in range(suite.repeats))))
    unit = "row" if execution.workers is None else "worker"
    times = f"{first.passes} times those" if first.passes > 1 else "those"
    multiply_adds = sum(row.multiply_adds for row in rows.values())
    return {
        "rows": f"{suite.trials}, of {suite.run.schedule.epochs} epochs, all of them trained and tested",
        "runs": f"{suite.num_runs}: {suite.trials} rows × {suite.repeats} (seed {seeds}), "
        f"{execution.cpus_per_worker} CPU a {unit}",
        "data": first.estimate.data,
        "training images": f"{first.estimate.train_images:,} in {first.estimate.classes} classes",
        "steps": f"{sum(row.steps for row in rows.values()):,}",
        "multiply-adds": f"{multiply_adds:.2e} of training, estimated as {times} of the forward passes; scoring on "
        "test is not counted",
        "disk": f"{disk_text(sum(row.disk_bytes for row in rows.values()))}, which are all kept",
        "wall time": _wall_time(rows[largest].run, rows[largest].estimate, execution, multiply_adds),
        "largest row": largest,
        "memory": memory_text(rows[largest].estimate, suite.repeats, execution.pack_size),
    }


def _largest(rows: Mapping[str, RowEstimate]) -> str:
    """Return the name of the row that needs the most memory."""
    return max(rows, key=lambda row: rows[row].estimate.state_bytes + rows[row].estimate.activation_bytes)


def _rows_table(rows: Mapping[str, RowEstimate]) -> Table:
    """Return one line for each row, of all its seeds, as comments."""
    columns: dict[str, Any] = {
        "steps": lambda row: f"{row.steps:,}",
        "parameters": lambda row: f"{row.estimate.parameters:,}",
        "multiply-adds, one image forward": lambda row: f"{row.estimate.multiply_adds:,}",
        "of training": lambda row: f"{row.multiply_adds:.2e}",
        "disk, MB": lambda row: f"{row.disk_bytes / 1e6:,.1f}",
    }
    table = Table(box=None, pad_edge=False)
    table.add_column("# row", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    for name, row in rows.items():
        table.add_row(f"# {name}", *(cell(row) for cell in columns.values()))
    return table


_PRINTERS: dict[Kind, Any] = {"search": _print_sweep, "suite": _print_suite}
