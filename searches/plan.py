"""What a sweep would do, for `--dry-run`."""

from __future__ import annotations

import yaml
from rich.console import Console

from mcl_ray.environment import Environment
from mcl_ray.overrides import replace
from mcl_ray.plan import disk, facts_table, plan_run, run_facts
from searches.spec import SweepSpec


def print_sweep_plan(sweep: SweepSpec, environment: Environment, cpus_per_trial: int, console: Console) -> None:
    """Print the search as the file that `mcl_ray.sweep` reads, and what it would do.

    Parameters, multiply-adds and disk are those of the most peers in the space, of the run's own networks.
    """
    largest = replace(sweep.run, {path: max(d.ends()) for path, d in sweep.space.items() if path == "cohort.size"})
    plan = plan_run(largest, environment)
    start = sweep.start_point
    facts = {
        "runs": f"{sweep.trials}, {cpus_per_trial} CPU each; the first: {start or 'drawn by the sampler'}",
        "largest run": f"{largest.cohort.size} peers, up to {largest.schedule.epochs} epochs",
    }
    total = {
        "steps in all": f"at most {plan.steps * sweep.trials:,}",
        "disk": f"at most {disk(plan.disk_bytes * sweep.trials)}",
    }
    console.print(yaml.safe_dump(sweep.model_dump(mode="json"), sort_keys=False), end="", soft_wrap=True)
    console.print(facts_table(facts | run_facts(plan) | total))
