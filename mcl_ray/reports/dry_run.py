"""What a dry run prints: estimates in words."""

from __future__ import annotations

from rich.console import Console

from mcl_ray.config.recipes import to_yaml
from mcl_ray.config.spec import RunSpec
from mcl_ray.training.estimate import RunPlan


def print_run_plan(spec: RunSpec, plan: RunPlan, console: Console, workers: tuple[int, int] | None = None) -> None:
    """Print the spec as the file that `mcl_ray.train` reads, and the estimate of its run."""
    console.print(to_yaml(spec), end="", soft_wrap=True)
    facts = run_facts(plan) | {"memory": memory(plan), "runs": "1", "disk": disk(plan.disk_bytes)}
    print_facts(facts | workers_fact(spec.batch.size, workers), console)


def run_facts(plan: RunPlan) -> dict[str, str]:
    """The plan of one run in words."""
    return {
        "data": plan.data,
        "training images": f"{plan.train_images:,} in {plan.classes} classes",
        "steps": f"{plan.steps:,} ({plan.steps_per_epoch:,} an epoch)",
        "parameters": f"{plan.parameters:,}",
        "multiply-adds": f"{plan.multiply_adds:,} per image, forward",
    }


def workers_fact(batch_size: int, workers: tuple[int, int] | None) -> dict[str, str]:
    """How a batch is shared, if it is."""
    if workers is None:
        return {}
    fewest, most = workers
    many = str(most) if fewest == most else f"{fewest} to {most}, as there is room"
    return {"workers": f"{many}, who share every batch of {batch_size} images"}


def memory(plan: RunPlan, runs: int = 1) -> str:
    """Memory of one worker in words; `runs` that it trains in turn have their states side by side."""
    state, step = runs * plan.state_bytes, plan.activation_bytes
    seeds = f" of {runs} seeds side by side" if runs > 1 else ""
    return (
        f"about {(state + step) / 1e6:,.0f} MB a worker in fp32, beside the framework and the images: "
        f"{state / 1e6:,.1f} MB of weights, gradients, momentum, banks and queues{seeds}, "
        f"{step / 1e6:,.0f} MB of a step's activations"
    )


def print_facts(facts: dict[str, str], console: Console) -> None:
    """Names and values in two columns, as comments: a line each, however long, so that all of it stays one."""
    width = max(map(len, facts))
    for name, value in facts.items():
        console.print(f"# {name:{width}}  {value}", soft_wrap=True)


def disk(size_bytes: int) -> str:
    """Bytes in words."""
    return f"{size_bytes / 1e6:,.1f} MB of checkpoints"
