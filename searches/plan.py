"""What a sweep would do, for `--dry-run`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import yaml
from rich.console import Console

from mcl_ray.environment import Environment
from mcl_ray.errors import SpecError
from mcl_ray.place import Place
from mcl_ray.plan import RunPlan, disk, facts_table, memory, plan_run, run_facts, workers_fact
from mcl_ray.spec import RunSpec
from searches.space import applied, same
from searches.spec import SweepSpec


def print_sweep_plan(sweep: SweepSpec, place: Place, console: Console) -> None:
    """Print the search as the file that `mcl_ray.sweep` reads, and what it would do.

    Steps, parameters, multiply-adds, memory and disk are those of the most peers in the space, of its largest networks.
    """
    workers = place.group
    largest, plan = _largest(sweep, place.environment(), workers or (1, 1))
    total = {
        "memory": memory(plan, sweep.repeats),
        "steps in all": f"at most {plan.steps * sweep.num_runs:,}",
        "disk": f"at most {disk(plan.disk_bytes * _runs_kept(sweep))} when all is done",
    }
    peers = ", ".join(dict.fromkeys(largest.cohort.peers))
    size = {"largest run": f"{largest.cohort.size} peers ({peers}), up to {largest.schedule.epochs} epochs"}
    facts = _search_facts(sweep, place) | workers_fact(sweep.run.batch.size, workers) | size | run_facts(plan) | total
    console.print(yaml.safe_dump(sweep.model_dump(mode="json"), sort_keys=False), end="", soft_wrap=True)
    console.print(facts_table(facts))


def _search_facts(sweep: SweepSpec, place: Place) -> dict[str, str]:
    """The search in words."""
    points, scheduler = sweep.first_points, sweep.scheduler.kind
    seeds = f"seeds {sweep.seeds[0]} to {sweep.seeds[-1]}, scored by their {sweep.score.kind}"
    unit = "trial" if place.workers is None else "worker"
    facts = {
        "runs": f"{sweep.num_runs}: {sweep.trials} trials × {sweep.repeats}, {place.cpus_per_worker} CPU a {unit}",
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


def _largest(sweep: SweepSpec, environment: Environment, workers: tuple[int, int]) -> tuple[RunSpec, RunPlan]:
    """Of the runs with the most peers, the one with the most parameters."""
    runs = [sweep.run, *_cohorts(sweep)]
    most = max(run.cohort.size for run in runs)
    cohorts = {run.cohort: run for run in runs if run.cohort.size == most}
    plans = [(run, plan_run(run, environment, workers)) for run in cohorts.values()]
    return max(plans, key=lambda pair: pair[1].parameters)


def _cohorts(sweep: SweepSpec) -> Iterator[RunSpec]:
    """The run with every cohort that the space may make of it."""
    sizes, networks = sweep.space.get("cohort.size"), sweep.space.get("cohort.networks")
    only_with = sizes.when.get("cohort.networks") if sizes else None
    for names in networks.ends() if networks else (sweep.run.cohort.networks,):
        has_size = only_with is None or any(same(names, other) for other in only_with)
        for size in (None, *(sizes.ends() if sizes and has_size else ())):
            with contextlib.suppress(SpecError):  # a trial of what does not go together fails
                yield applied(sweep.run, {"cohort.networks": names} | ({"cohort.size": size} if size else {}))
