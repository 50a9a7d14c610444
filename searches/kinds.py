"""The behaviour of each kind of experiment, where a search and a suite differ: the one place that chooses by kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcl_ray.analysis.conclusion import SweepConclusion
from mcl_ray.config.environment import Environment
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.data.dataset import Dataset
from mcl_ray.results.store import SweepWriter
from searches.spec.experiment import Experiment, Kind
from searches.spec.suite import SuiteSpec
from searches.spec.sweep import SweepSpec

if TYPE_CHECKING:
    from searches.estimate import SweepEstimate
    from searches.suite_estimate import SuiteEstimate

    Estimate = SweepEstimate | SuiteEstimate


@dataclass(frozen=True, kw_only=True)
class Following:
    """The sweeps that follow one that finished."""

    sweep_ids: Sequence[str]
    """Sweeps that were started before and are resumed, oldest first."""
    new: Experiment | None
    """Experiment that is started; None if all its rows were started before."""
    missing: Sequence[str]
    """Rows that are left out, as not all their seeds finished with a checkpoint."""


class Behaviour(ABC):
    """Behaviour of a kind of experiment; by default nothing is checked beforehand and nothing follows."""

    def check_networks(self, experiment: Any, results: Path) -> None:  # noqa: B027 -- a search freezes none
        """Check that the networks that the trials freeze are there.

        Raises:
            CheckpointError: they are missing or have changed.
        """

    def trial_environment(self, experiment: Any, environment: Environment) -> Environment:
        """Return the environment of the trials."""
        return environment

    @abstractmethod
    def estimate(self, experiment: Any, execution: ExecutionOptions) -> Estimate:
        """Return the resources that the experiment needs."""

    @abstractmethod
    def conclude(
        self, experiment: Any, ranked: SweepConclusion, dataset: Dataset, environment: Environment, writer: SweepWriter
    ) -> SweepConclusion:
        """Complete the ranking with scores and files, and record the sweep as finished.

        Raises:
            TrainingError: no configuration has a score.
        """

    def following(self, experiment: Any, folder: Path) -> Following | None:
        """Return what follows the sweep that finished in `folder`; None if nothing does."""
        return None


class SearchBehaviour(Behaviour):
    """Behaviour of a search: the best configuration is scored on the test split."""

    def estimate(self, experiment: SweepSpec, execution: ExecutionOptions) -> SweepEstimate:
        """Return the largest resources of any trial."""
        from searches.estimate import estimate_sweep

        return estimate_sweep(experiment, execution)

    def conclude(
        self,
        experiment: SweepSpec,
        ranked: SweepConclusion,
        dataset: Dataset,
        environment: Environment,
        writer: SweepWriter,
    ) -> SweepConclusion:
        """Score the best configuration, and write its spec and the report."""
        from searches.conclude import conclude_search

        return conclude_search(experiment, ranked, dataset, environment, writer)


class SuiteBehaviour(Behaviour):
    """Behaviour of a suite: rows are compared with a published table, and another suite may follow."""

    def check_networks(self, experiment: SuiteSpec, results: Path) -> None:
        """Check the networks of a suite that follows another."""
        from searches.linear_eval import check_foundation

        check_foundation(experiment, results)

    def trial_environment(self, experiment: SuiteSpec, environment: Environment) -> Environment:
        """Return the environment; a suite that follows another has its networks in the other's folder."""
        if experiment.built_on is None:
            return environment
        return replace(environment, backbone=environment.results / "sweeps" / experiment.built_on.sweep)

    def estimate(self, experiment: SuiteSpec, execution: ExecutionOptions) -> SuiteEstimate:
        """Return the resources of each row."""
        from searches.suite_estimate import estimate_suite

        return estimate_suite(experiment, execution)

    def conclude(
        self,
        experiment: SuiteSpec,
        ranked: SweepConclusion,
        dataset: Dataset,
        environment: Environment,
        writer: SweepWriter,
    ) -> SweepConclusion:
        """Compare the rows with the published table, and write the report."""
        from searches.conclude_suite import conclude_suite

        return conclude_suite(experiment, ranked, writer)

    def following(self, experiment: SuiteSpec, folder: Path) -> Following | None:
        """Return the linear classification of the networks in `folder`, if the suite has one."""
        if experiment.then is None:
            return None
        from searches.linear_eval import follower, started

        following = follower(experiment, folder)
        sweep_ids, new = started(following, folder.parents[1])
        missing = [row for row in experiment.rows if row not in following.rows]
        return Following(sweep_ids=sweep_ids, new=new, missing=missing)


BEHAVIOURS: dict[Kind, Behaviour] = {"search": SearchBehaviour(), "suite": SuiteBehaviour()}


def behaviour_of(experiment: Experiment) -> Behaviour:
    """Return the behaviour of an experiment's kind."""
    return BEHAVIOURS[experiment.kind]
