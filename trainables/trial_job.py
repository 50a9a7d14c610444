"""A configuration of a sweep as a trial trains it: a run for every seed, their records, and the reports to Tune.

It is trained in the trial's own process (`tune_function`) or by workers (`tune_trainable`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from mcl_ray.callbacks import EpochEnd, TrialInfo
from mcl_ray.config.environment import Environment
from mcl_ray.config.plugins import import_plugins
from mcl_ray.config.scoring import Score
from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import MclError, SpecError, StoreError, TrainingError
from mcl_ray.results.remote.pull import fetch, open_replica
from mcl_ray.results.schema import RunState
from mcl_ray.results.stop_decision import decide_stop
from mcl_ray.results.store import ENDED, Provenance, RunWriter, has_ended, is_run, recorded_state, state_of

TRIAL, REPEAT = "trial", "repeat"
"""Keys of a trial's id in its configuration; and of the seed, if only one of the configuration's is trained."""
EPOCH, SCORE, FAILED, UNWRITTEN = "epoch", "score", "failed", "unwritten"
"""Keys in a trial's reports, of its epoch, its score, its failure, and the reason why it could not be recorded."""


@dataclass(frozen=True, kw_only=True)
class TrialJob:
    """Settings that all trials of a sweep have in common."""

    sweep: Path
    """Folder of the sweep, below which its runs are written."""
    run: RunSpec
    """Spec that every trial trains, apart from the searched fields."""
    runs_of: Callable[[Mapping[str, Any]], Sequence[RunSpec]]
    """Function from a configuration to its runs, one for every seed."""
    repeats: int
    """Number of seeds of a configuration; a configuration of Tune may ask for one of them."""
    objective: str
    score: Score
    costs: tuple[str, ...]
    """Columns of a run's record that are reported beside the score."""
    environment: Environment

    def on_this_node(self) -> TrialJob:
        """Return the job for this process, with its plugins imported, and for this machine's copy of a remote store.

        Raises:
            SpecError: a plugin cannot be imported.
        """
        import_plugins(self.run.plugins)
        if self.environment.store is None:
            return self
        results = open_replica(self.environment.store)
        return replace(self, environment=self.environment.on_this_node(), sweep=results / "sweeps" / self.sweep.name)

    def begin(self, config: Mapping[str, Any], provenance: Provenance | None) -> Iterator[tuple[RunSpec, RunWriter]]:
        """Yield the runs of a trial, new or started before it was lost; the caller closes the writers.

        Raises:
            SpecError: the searched values are not valid together; every run is recorded as failed.
        """
        try:
            specs = self.specs_of(config)
        except SpecError as broken:
            self.record_failure(config, broken)
            raise
        for repeat, spec in specs.items():
            writer = self._writer(config, spec, repeat, provenance)
            yield writer.spec, writer  # as recorded, if the run was started before

    def specs_of(self, config: Mapping[str, Any]) -> dict[int, RunSpec]:
        """Return repeat → run of a configuration, for the seeds that it asks for.

        Raises:
            SpecError: the searched values are not valid together.
        """
        specs = self.runs_of(point_of(config))
        return {repeat: specs[repeat] for repeat in self._repeats(config)}

    def _repeats(self, config: Mapping[str, Any]) -> Sequence[int]:
        return [config[REPEAT]] if REPEAT in config else range(self.repeats)

    def ended_by(self, config: Mapping[str, Any], error: Exception) -> dict[str, Any]:
        """Record that a trial failed, and return its last report.

        Results that cannot be written are no failure of the configuration: its runs stay as they are, and are resumed.
        """
        try:
            if isinstance(error, StoreError):
                raise error
            self.record_failure(config, error if isinstance(error, MclError) else TrainingError(str(error)))
        except StoreError as unwritten:
            return {EPOCH: 0, UNWRITTEN: str(unwritten)}
        return {EPOCH: 0, FAILED: f"{type(error).__name__}: {error}"}

    def record_failure(self, config: Mapping[str, Any], error: MclError) -> None:
        """Record that the runs of a trial failed, except those that have ended."""
        try:
            specs = self.specs_of(config)
        except SpecError:
            specs = dict.fromkeys(self._repeats(config), self.run)
        for folder, (repeat, spec) in zip(self._folders(config), specs.items(), strict=True):
            if not has_ended(folder):
                self._writer(config, spec, repeat, None).finish("failed", error)

    def decide_stop(self, config: Mapping[str, Any], epoch: int) -> None:
        """Record that a trial is to be stopped after `epoch`, before its process is ended.

        For the process itself, the end of a sweep looks like an early stop.
        """
        for folder in self._folders(config):
            if is_run(folder):
                decide_stop(folder, epoch)

    def record_interruption(self, config: Mapping[str, Any]) -> None:
        """Record that a trial is to be resumed, unless its stop was decided before."""
        for folder in self._folders(config):
            _end(folder, None)

    def has_stopped(self, config: Mapping[str, Any]) -> bool:
        """Return whether the runs of a trial that Tune stopped have ended, and record that they have.

        A trial records it itself if there is time; workers that Tune kills as the sweep ends have none. False while a
        run is still recorded as running.
        """
        folders = self._folders(config)
        if any(is_run(folder) and state_of(folder) == "running" for folder in folders):
            return False
        self.record_stop(config)
        return True

    def record_stop(self, config: Mapping[str, Any]) -> None:
        """Record that a trial was stopped early, after its processes have ended."""
        for folder in self._folders(config):
            _end(folder, "stopped")

    def _folders(self, config: Mapping[str, Any]) -> list[Path]:
        """Return the folders of a trial's runs, with their records up to date if there is a remote store."""
        folders = [self.folder_of(config, repeat) for repeat in self._repeats(config)]
        for folder in folders:
            fetch(folder)
        return folders

    def folder_of(self, config: Mapping[str, Any], repeat: int) -> Path:
        """Return the folder of one run of a trial; its name is unique in the results folder, as the sweep's is."""
        return self.sweep / "runs" / f"{self.sweep.name}-{config[TRIAL]}-r{repeat}"

    def report(self, epochs: Sequence[EpochEnd], writers: Sequence[RunWriter]) -> dict[str, float]:
        """Return the report of an epoch to Tune.

        Args:
            epochs: The epoch's end, for each seed that has not failed.
            writers: Writers of the records of all seeds.

        Returns:
            The score over these seeds, the mean, standard deviation and number of their objectives, and their costs.
        """
        values = [_objective(one, self.objective) for one in epochs]
        spread = {"mean": fmean(values), "std": stdev(values) if len(values) > 1 else 0.0, "n": len(values)}
        active = [writer for writer in writers if writer.state != "failed"]
        costs = {cost: fmean(writer.cost(cost) for writer in active) for cost in self.costs}
        return {EPOCH: epochs[0].epoch, SCORE: self.score.of(values)} | spread | costs

    def _writer(
        self, config: Mapping[str, Any], spec: RunSpec, repeat: int, provenance: Provenance | None
    ) -> RunWriter:
        if self.environment.store is None and not self.sweep.is_dir():  # it must not be made again
            raise StoreError(f"a results folder must stay where it is, but {self.sweep} was renamed or removed")
        return RunWriter.begin(
            self.sweep,
            self.folder_of(config, repeat).name,
            spec,
            searched=point_of(config),
            sweep_id=self.sweep.name,
            trial_id=config[TRIAL],
            provenance=provenance,
        )


def _end(folder: Path, state: RunState | None) -> None:
    """Record how a run ended whose process did not, unless it does while its folder is locked.

    Args:
        folder: Of the run; without a record, nothing is done.
        state: How it ended; None: `stopped` if that was decided, else `interrupted`.
    """
    if not is_run(folder) or recorded_state(folder) in ENDED:
        return
    with RunWriter.amend(folder) as writer:
        if writer.state not in ENDED:
            writer.finish(state or writer.state_if_closed)


def point_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the searched fields of Tune's configuration."""
    return {name: value for name, value in config.items() if name not in (TRIAL, REPEAT)}


def config_of(trial: TrialInfo) -> dict[str, Any]:
    """Return Tune's configuration of a trial."""
    seed = {} if trial.repeat is None else {REPEAT: trial.repeat}
    return {**trial.point, TRIAL: trial.trial_id, **seed}


def info_of(config: Mapping[str, Any]) -> TrialInfo:
    """Return the trial of Tune's configuration, as callbacks receive it."""
    return TrialInfo(trial_id=config[TRIAL], point=point_of(config), repeat=config.get(REPEAT))


def _objective(epoch: EpochEnd, objective: str) -> float:
    (value,) = (row.value for row in epoch.rows if f"{row.split}/{row.metric}/{row.member}" == objective)
    return value
