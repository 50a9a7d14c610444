"""The resources that a suite needs, for `--dry-run`: those of each row, and of the suite that follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mcl_ray.config.environment import Environment
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.config.spec import RunSpec
from mcl_ray.training.estimate import RunEstimate, estimate_run
from searches.linear_eval import planned_follower
from searches.spec.suite import ROW, SuiteSpec


@dataclass(frozen=True, kw_only=True)
class RowEstimate:
    """Estimate of one row with all its seeds."""

    run: RunSpec
    estimate: RunEstimate
    """Estimate of one seed."""
    repeats: int

    @property
    def steps(self) -> int:
        """Number of steps of all seeds."""
        return self.repeats * self.estimate.steps

    @property
    def passes(self) -> int:
        """Duration of a step, in forward passes of all peers."""
        return self.run.method_entry.passes

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of training all seeds, estimated."""
        return self.passes * self.steps * self.run.batch.size * self.estimate.multiply_adds

    @property
    def disk_bytes(self) -> int:
        """Size of the checkpoints of all seeds, in bytes."""
        return self.repeats * self.estimate.disk_bytes


@dataclass(frozen=True, kw_only=True)
class SuiteEstimate:
    """Estimate of a suite."""

    experiment: SuiteSpec
    rows: Mapping[str, RowEstimate]
    """Name of a row → its estimate."""
    following: SuiteEstimate | None = None
    """Estimate of the suite that follows, if one does."""


def estimate_suite(suite: SuiteSpec, execution: ExecutionOptions) -> SuiteEstimate:
    """Return the estimate of a suite, and of the one that follows.

    Raises:
        SpecError: the sampler cannot serve a row's batches.
        DataError: the data set is there, but damaged or does not have its checksum.
    """
    rows = estimate_rows(suite, execution.environment(), execution.group or (1, 1))
    following = None if suite.then is None else estimate_suite(planned_follower(suite), execution)
    return SuiteEstimate(experiment=suite, rows=rows, following=following)


def estimate_rows(
    suite: SuiteSpec, environment: Environment, workers: tuple[int, int] = (1, 1)
) -> dict[str, RowEstimate]:
    """Return each row's estimate by its name.

    Raises:
        SpecError: the sampler cannot serve a row's batches.
        DataError: the data set is there, but damaged or does not have its checksum.
    """
    estimates: dict[RunSpec, RunEstimate] = {}
    rows: dict[str, RowEstimate] = {}
    for row in suite.rows:
        run = suite.trial_run({ROW: row})
        alike = run.model_copy(update={"losses": suite.run.losses})  # weights of losses change no resource
        if alike not in estimates:
            estimates[alike] = estimate_run(run, environment, workers)
        rows[row] = RowEstimate(run=run, estimate=estimates[alike], repeats=suite.repeats)
    return rows
