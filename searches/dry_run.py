"""What a sweep would do, for `--dry-run`."""

from __future__ import annotations

from dataclasses import replace

import yaml
from rich.console import Console

from mcl_ray.config.environment import Environment
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.source import check_counts
from mcl_ray.errors import SpecError
from mcl_ray.reports.dry_run import disk, memory, print_facts, run_facts, workers_fact
from mcl_ray.training.estimate import Images, RunEstimate, estimate_run, images_of
from searches.spec.bounds import corners, undominated
from searches.spec.sweep import SweepSpec

MAX_PLANS = 64
"""How many runs are worked out, at most: each takes up to seconds."""


def print_sweep_plan(sweep: SweepSpec, execution: ExecutionOptions, console: Console) -> None:
    """Print the search as the file that `mcl_ray.sweep` reads, and what it would do.

    Steps, parameters, multiply-adds, memory and disk are each the largest that any trial of the space may have.
    """
    workers = execution.group
    largest, plan = plan_sweep(sweep, execution.environment(), workers or (1, 1))
    total = {
        "memory": memory(plan, sweep.repeats),
        "steps in all": f"at most {plan.steps * sweep.num_runs:,}",
        "disk": f"at most {disk(plan.disk_bytes * _runs_kept(sweep))} when all is done",
    }
    peers = ", ".join(dict.fromkeys(largest.cohort.peers))
    size = {
        "largest run": f"{largest.cohort.size} peers ({peers}), batches of {largest.batch.size}, up to "
        f"{largest.schedule.epochs} epochs; each figure below is the largest of any trial"
    }
    facts = _search_facts(sweep, execution) | workers_fact(largest.batch.size, workers) | size | run_facts(plan) | total
    console.print(yaml.safe_dump(sweep.model_dump(mode="json"), sort_keys=False), end="", soft_wrap=True)
    print_facts(facts, console)


def _search_facts(sweep: SweepSpec, execution: ExecutionOptions) -> dict[str, str]:
    """The search in words."""
    points, scheduler = sweep.first_points, sweep.scheduler.kind
    seeds = f"seeds {sweep.seeds[0]} to {sweep.seeds[-1]}, scored by their {sweep.score.kind}"
    unit = "trial" if execution.workers is None else "worker"
    facts = {
        "runs": f"{sweep.num_runs}: {sweep.trials} trials × {sweep.repeats}, {execution.cpus_per_worker} CPU a {unit}",
        "repeats": f"{sweep.repeats} ({seeds})" if sweep.repeats > 1 else "1",
        "maximised": sweep.objective,
        "minimised": ", ".join(sweep.costs),
        "sampler": f"{sweep.sampler.kind}; points given to begin with: {min(len(points), sweep.trials)}",
        "first point": str(points[0]) if points else "drawn by the sampler",
        "warm start": ", ".join(sweep.warm_start),
        "scheduler": scheduler,
    }
    if scheduler != "none":
        facts["scheduler"] += (
            f": {sweep.scheduler.grace_epochs} epochs for all, then one in {sweep.scheduler.reduction_factor} goes on"
        )
    return {name: told for name, told in facts.items() if told}


def _runs_kept(sweep: SweepSpec) -> int:
    """Runs whose checkpoints are there in the end."""
    kept = sweep.trials if sweep.keep_checkpoints is None else min(sweep.keep_checkpoints, sweep.trials)
    return kept * sweep.repeats


def plan_sweep(
    sweep: SweepSpec, environment: Environment, workers: tuple[int, int] = (1, 1)
) -> tuple[RunSpec, RunEstimate]:
    """The trial that takes the most memory, and the largest of each figure, whichever trial it is of.

    All seeds of a trial are in memory side by side. Of more than `MAX_PLANS` corners that may be the largest, those of
    the most peers are worked out.

    Raises:
        SpecError: the sampler cannot serve the run's own batches.
        DataError: the data set is there, but damaged or not what its checksum says.
    """
    images = images_of(sweep.run.data, environment)
    check_counts(images.counts, sweep.run, workers[1])
    runs = [run for run in corners(sweep) if _can_be_fed(run, images, workers[1])] or [sweep.run]
    plans = {run: estimate_run(run, environment, workers, images) for run in undominated(runs)[:MAX_PLANS]}
    hungriest = max(plans, key=lambda run: sweep.repeats * plans[run].state_bytes + plans[run].activation_bytes)
    steps = plans[hungriest].train_images // min(run.batch.size for run in runs)
    return hungriest, replace(
        plans[hungriest],
        steps_per_epoch=steps,
        steps=steps * sweep.run.schedule.epochs,
        parameters=max(plan.parameters for plan in plans.values()),
        multiply_adds=max(plan.multiply_adds for plan in plans.values()),
        disk_bytes=max(plan.disk_bytes for plan in plans.values()),
    )


def _can_be_fed(run: RunSpec, images: Images, most_workers: int) -> bool:
    """A trial of other batches fails."""
    try:
        check_counts(images.counts, run, most_workers)
    except SpecError:
        return False
    return True
