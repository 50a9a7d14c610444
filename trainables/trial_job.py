"""A configuration of a sweep as trials train it: a run for every seed, their records, and what is reported of them.

Where it is trained is `trial.py` (in the trial's own process) and `group.py` (in a group of workers).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from mcl_ray.callbacks import EpochEnd
from mcl_ray.config.environment import Environment
from mcl_ray.config.scoring import Score
from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import MclError, SpecError, StoreError, TrainingError
from mcl_ray.results.remote.pull import fetch, open_replica
from mcl_ray.results.schema import RunState
from mcl_ray.results.store import ENDED, Provenance, RunWriter, has_ended, is_run, state_of

TRIAL, EPOCH, SCORE, FAILED, UNWRITTEN = "trial", "epoch", "score", "failed", "unwritten"
"""Keys: of a trial's id in its configuration; in what it reports, of its epoch, its score, its failure, and why it
could not be put on record."""


@dataclass(frozen=True, kw_only=True)
class TrialJob:
    """What all trials of a sweep have in common."""

    sweep: Path
    """The sweep's folder; its runs are written below it."""
    run: RunSpec
    """What every trial trains, apart from the searched fields."""
    runs_of: Callable[[Mapping[str, Any]], Sequence[RunSpec]]
    """Configuration → its runs, one for every seed."""
    repeats: int
    objective: str
    score: Score
    costs: tuple[str, ...]
    """Columns of a run's record that are reported beside the score."""
    environment: Environment

    def on_this_node(self) -> TrialJob:
        """The same on the machine of this process, whose copy of a store may lie elsewhere."""
        if self.environment.store is None:
            return self
        results = open_replica(self.environment.store)
        return replace(self, environment=self.environment.on_this_node(), sweep=results / "sweeps" / self.sweep.name)

    def begin(self, config: Mapping[str, Any], facts: Provenance | None) -> Iterator[tuple[RunSpec, RunWriter]]:
        """The runs of a trial, new ones or those that it began before it was lost; whoever takes a writer closes it.

        Raises:
            SpecError: the searched values may each be right and not go together; every run is on record as failed.
        """
        try:
            specs = self.runs_of(point_of(config))
        except SpecError as broken:
            self.record_failure(config, broken)
            raise
        for repeat, spec in enumerate(specs):
            yield spec, self._writer(config, spec, repeat, facts)

    def ended_by(self, config: Mapping[str, Any], error: Exception) -> dict[str, Any]:
        """What a trial reports last that met an error, once it is on record as failed.

        Results that cannot be written are no failure of the configuration: its runs stay as they are, to go on.
        """
        try:
            if isinstance(error, StoreError):
                raise error
            self.record_failure(config, error if isinstance(error, MclError) else TrainingError(str(error)))
        except StoreError as unwritten:
            return {EPOCH: 0, UNWRITTEN: str(unwritten)}
        return {EPOCH: 0, FAILED: f"{type(error).__name__}: {error}"}

    def record_failure(self, config: Mapping[str, Any], error: MclError) -> None:
        """Put on record that the runs of a trial failed, those that did not come to an end of their own."""
        try:
            specs = self.runs_of(point_of(config))
        except SpecError:
            specs = [self.run] * self.repeats
        for folder, (repeat, spec) in zip(self._folders(config), enumerate(specs), strict=True):
            if not has_ended(folder):
                self._writer(config, spec, repeat, None).finish("failed", error)

    def record_interruption(self, config: Mapping[str, Any]) -> None:
        """Put on record that a trial is to go on: to itself, the end of a sweep looks like an early stop."""
        for folder in self._folders(config):
            _end(folder, "interrupted", unless=("finished", "failed"))

    def has_stopped(self, config: Mapping[str, Any]) -> bool:
        """Whether all runs of a trial that Tune stopped are on record as ended, or are put there now.

        A trial sees to that itself, if there is time: a group that Tune kills as the sweep ends has none. False while
        it lives.
        """
        folders = self._folders(config)
        if any(is_run(folder) and state_of(folder) == "running" for folder in folders):
            return False
        self.record_stop(config)
        return True

    def record_stop(self, config: Mapping[str, Any]) -> None:
        """Put on record that a trial was stopped early, after its processes went away."""
        for folder in self._folders(config):
            _end(folder, "stopped", unless=ENDED)

    def _folders(self, config: Mapping[str, Any]) -> list[Path]:
        """Of all runs of a trial, with their records as they are in a store by now, if there is one."""
        folders = [self.folder_of(config, repeat) for repeat in range(self.repeats)]
        for folder in folders:
            fetch(folder)
        return folders

    def folder_of(self, config: Mapping[str, Any], repeat: int) -> Path:
        """The folder of one run of a trial; its name is unique in the results folder, as the sweep's is."""
        return self.sweep / "runs" / f"{self.sweep.name}-{config[TRIAL]}-r{repeat}"

    def report(self, told: Sequence[EpochEnd], writers: Sequence[RunWriter]) -> dict[str, float]:
        """What Tune hears of an epoch: the score over the living seeds, their mean, spread and number, the costs."""
        values = [_figure(one, self.objective) for one in told]
        spread = {"mean": fmean(values), "std": stdev(values) if len(values) > 1 else 0.0, "n": len(values)}
        living = [writer for writer in writers if writer.state != "failed"]
        costs = {cost: fmean(writer.cost(cost) for writer in living) for cost in self.costs}
        return {EPOCH: told[0].epoch, SCORE: self.score.of(values)} | spread | costs

    def _writer(self, config: Mapping[str, Any], spec: RunSpec, repeat: int, facts: Provenance | None) -> RunWriter:
        return RunWriter.begin(
            self.sweep,
            self.folder_of(config, repeat).name,
            spec,
            searched=point_of(config),
            sweep_id=self.sweep.name,
            trial_id=config[TRIAL],
            facts=facts,
        )


def _end(folder: Path, state: RunState, unless: Collection[str]) -> None:
    """Put on record how a run ended whose process did not say so, or does while its folder is waited for."""
    if not is_run(folder) or state_of(folder) in unless:
        return
    with RunWriter.amend(folder) as writer:
        if writer.state not in unless:
            writer.finish(state)


def point_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The searched fields of Tune's configuration."""
    return {name: value for name, value in config.items() if name != TRIAL}


def _figure(told: EpochEnd, objective: str) -> float:
    (value,) = (row.value for row in told.rows if f"{row.split}/{row.metric}/{row.member}" == objective)
    return value
