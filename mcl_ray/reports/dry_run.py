"""Text of a dry run: the resolved spec, and the estimates of `mcl_ray.training.estimate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mcl_ray.config.recipes import to_yaml
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.dataset_index import left_out_text
from mcl_ray.reports.labels import duration
from mcl_ray.training.estimate import RunEstimate

if TYPE_CHECKING:
    from mcl_ray.training.worker_split import SplitCost


def run_dry_run(
    spec: RunSpec, estimate: RunEstimate, workers: tuple[int, int] | None = None, speed: float | None = None
) -> str:
    """Return the spec as a file that `mcl_ray.train` reads, with the estimates of the run as comments.

    Args:
        spec: The resolved spec.
        estimate: The estimate of the run.
        workers: Minimum and maximum number of workers; None for a run in this process.
        speed: Multiply-adds per second of one worker, from `mcl_ray.training.timing`; None leaves out the wall time.
    """
    work = spec.method_entry.passes * estimate.steps * spec.batch.size * estimate.multiply_adds
    facts = describe_estimate(estimate) | {
        "memory": memory_text(estimate),
        "runs": "1",
        "disk": disk_text(estimate.disk_bytes),
    }
    if speed is not None:
        facts["wall time"] = wall_time_text(work, speed, 1 if workers is None else workers[0])
    return to_yaml(spec) + comment_lines(facts | describe_workers(spec.batch.size, workers, estimate))


def describe_estimate(estimate: RunEstimate) -> dict[str, str]:
    """Return name → text of the estimates of one run."""
    left_out = {"left out": left_out_text(estimate.left_out)} if estimate.left_out else {}
    return {
        "data": estimate.data,
        "training images": f"{estimate.train_images:,} in {estimate.classes} classes",
        **left_out,
        "steps": f"{estimate.steps:,} ({estimate.steps_per_epoch:,} an epoch)",
        "parameters": f"{estimate.parameters:,}",
        "multiply-adds": f"{estimate.multiply_adds:,} per image, forward",
    }


def describe_workers(batch_size: int, workers: tuple[int, int] | None, estimate: RunEstimate) -> dict[str, str]:
    """Return name → text of how a run is split over workers; empty for a run without workers."""
    if workers is None:
        return {}
    minimum, maximum = workers
    count = str(maximum) if minimum == maximum else f"{minimum} to {maximum}, as there is room"
    if not estimate.splits:
        return {"workers": f"{count}, who share every batch of {batch_size} images"}
    chosen, *others = map(_split_text, estimate.splits)
    of_fewest = "" if minimum == maximum else f" of {minimum}"
    text = {"workers": f"{count}, who share batches of {batch_size} images", f"each worker{of_fewest}": chosen}
    return text | {f"or{' ' * number}": other for number, other in enumerate(others)}


def _split_text(cost: SplitCost) -> str:
    """Return what each worker has and sends, as text."""
    size = sum(cost.memory) / 1e6
    return f"{cost.split}: sends {cost.sent_bytes / 1e6:,.2f} MB a step, about {size:,.0f} MB of memory"


def memory_text(estimate: RunEstimate, seeds: int = 1, pack: int | None = 1) -> str:
    """Return the memory of one worker as text.

    Args:
        estimate: of one run.
        seeds: number of runs whose states it holds, and which it trains side by side.
        pack: number of such trials that share their steps; None if it is measured later.
    """
    trials = pack or 1
    runs_in_a_step = trials * seeds if trials > 1 else 1
    state, step = trials * seeds * estimate.state_bytes, runs_in_a_step * estimate.activation_bytes
    together = f" of {seeds} seeds side by side" if seeds > 1 else ""
    together += f" in each of {trials} trials" if trials > 1 else ""
    more = "; more if trials share their steps" if pack is None else ""
    return (
        f"about {(state + step) / 1e6:,.0f} MB a worker in fp32, beside the framework and the images: "
        f"{state / 1e6:,.1f} MB of weights, gradients, momentum, banks and queues{together}, "
        f"{step / 1e6:,.0f} MB of a step's activations{more}"
    )


def wall_time_text(multiply_adds: float, speed: float, workers: int) -> str:
    """Return the wall time of training as text, for workers that are as fast as this process.

    Args:
        multiply_adds: Of all forward and backward passes.
        speed: Multiply-adds per second of one worker.
        workers: Workers at once.
    """
    at_once = f", {workers} workers at once" if workers > 1 else ""
    return (
        f"about {duration(multiply_adds / speed / workers)} on this machine{at_once}, by steps on random images just "
        "now; reading images and scoring are not counted"
    )


def disk_text(size_bytes: int) -> str:
    """Return the size of checkpoints as text."""
    return f"{size_bytes / 1e6:,.1f} MB of checkpoints"


def comment_lines(facts: Mapping[str, str]) -> str:
    """Return names and values in two columns, as YAML comments of one line each, however long."""
    width = max(map(len, facts))
    return "".join(f"# {name:{width}}  {value}\n" for name, value in facts.items())
