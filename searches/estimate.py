"""The resources that a search needs, for `--dry-run`: each is the largest that any trial of the space may need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mcl_ray.config.environment import Environment
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.config.parallelism import most_batch_parts
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.source import check_counts
from mcl_ray.errors import SpecError
from mcl_ray.results.warm_start import WarmStart
from mcl_ray.training.estimate import Images, RunEstimate, estimate_run, images_of
from searches.spec.bounds import corners, undominated
from searches.spec.sweep import SweepSpec
from searches.warm_start import check_taken, read_earlier

MAX_ESTIMATES = 64
"""Maximum number of runs that are estimated, as each takes up to seconds."""


@dataclass(frozen=True, kw_only=True)
class SweepEstimate:
    """Estimate of a search."""

    experiment: SweepSpec
    largest: RunSpec
    """Run of the trial that needs the most memory."""
    run: RunEstimate
    """Largest of each resource of a run, whichever trial's it is."""
    warm_start: Sequence[WarmStart] = ()
    """Numbers of the trials of earlier sweeps that the sampler learns from."""

    @property
    def steps(self) -> int:
        """Maximum number of steps of all runs."""
        return self.run.steps * self.experiment.num_runs

    @property
    def disk_bytes(self) -> int:
        """Maximum size of the checkpoints that remain at the end, in bytes."""
        search, limit = self.experiment, self.experiment.keep_checkpoints
        kept = search.num_runs if limit is None else min(limit, search.trials) * search.num_seeds
        return self.run.disk_bytes * kept


def estimate_sweep(sweep: SweepSpec, execution: ExecutionOptions) -> SweepEstimate:
    """Return the estimate of a search.

    Raises:
        SpecError: the sampler cannot serve the run's own batches, or a warm start takes no trial.
        StoreError: there is no sweep to start warm from.
        DataError: the data set is there, but damaged or does not have its checksum.
    """
    environment = execution.environment()
    earlier = read_earlier(sweep, environment)
    check_taken(earlier)
    largest, run = estimate_largest(sweep, environment, execution.group or (1, 1))
    return SweepEstimate(experiment=sweep, largest=largest, run=run, warm_start=[trials.summary for trials in earlier])


def estimate_largest(
    sweep: SweepSpec, environment: Environment, workers: tuple[int, int] = (1, 1)
) -> tuple[RunSpec, RunEstimate]:
    """Return the run that needs the most memory, and the largest of each resource.

    Runs for comparison count, too. The seeds of a trial are in memory side by side. Of more than `MAX_ESTIMATES` runs,
    those with the most peers are estimated.

    Raises:
        SpecError: the sampler cannot serve the run's own batches.
        DataError: the data set is there, but damaged or does not have its checksum.
    """
    images = images_of(sweep.run.data, environment)
    _check(sweep.run, images, environment, workers)
    compared = [sweep.trial_run(point) for point in sweep.compared.values()]
    runs = [run for run in [*corners(sweep), *compared] if _can_train(run, images, environment, workers)] or [sweep.run]
    plans = {run: estimate_run(run, environment, workers, images) for run in undominated(runs)[:MAX_ESTIMATES]}
    largest = max(plans, key=lambda run: sweep.repeats * plans[run].state_bytes + plans[run].activation_bytes)
    steps = plans[largest].train_images // min(run.batch.size for run in runs)
    return largest, replace(
        plans[largest],
        steps_per_epoch=steps,
        steps=steps * sweep.run.schedule.epochs,
        parameters=max(plan.parameters for plan in plans.values()),
        multiply_adds=max(plan.multiply_adds for plan in plans.values()),
        disk_bytes=max(plan.disk_bytes for plan in plans.values()),
    )


def _check(run: RunSpec, images: Images, environment: Environment, workers: tuple[int, int]) -> None:
    check_counts(images.counts, run, most_batch_parts(run, environment.parallelism, workers))


def _can_train(run: RunSpec, images: Images, environment: Environment, workers: tuple[int, int]) -> bool:
    """Return whether the images serve the run's batches, and the workers can share it; other trials fail."""
    try:
        _check(run, images, environment, workers)
    except SpecError:
        return False
    return True
