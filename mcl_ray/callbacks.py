"""The events of runs and sweeps, and the callbacks that receive them.

One event vocabulary for everything: records, TensorBoard, Prometheus, progress bars and the Optuna export are
callbacks, and a user's own callbacks are called beside them. Nothing here trains, searches or writes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mcl_ray.config.scoring import MEAN, Score
from mcl_ray.config.spec import RunSpec
from mcl_ray.results.dataset_info import DatasetInfo
from mcl_ray.results.schema import EpochRow, RunState, SweepState

if TYPE_CHECKING:
    from mcl_ray.analysis.conclusion import SweepConclusion

TrialState = Literal["finished", "stopped", "failed", "unrecorded"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunStart:
    """A run, or a further attempt of it, begins."""

    run_id: str
    folder: Path
    spec: RunSpec
    attempt: int
    """1 for a new run, one more each time it is resumed."""
    dataset: DatasetInfo
    parameters: int
    """Parameters of the whole cohort, heads included."""
    multiply_adds: int
    """Multiply-adds of one image, one forward pass through the whole cohort."""


@dataclass(frozen=True, kw_only=True)
class StepEnd:
    """A log interval of steps is done."""

    epoch: int
    """The epoch in progress, counted from 1."""
    step: int
    """Steps of this epoch that are done, counted from 1."""
    steps: int
    """Steps of an epoch."""
    losses: Mapping[str, float]
    """Each summand of the loss, unweighted, and `loss`, their weighted total: means over the epoch so far."""


@dataclass(frozen=True, kw_only=True)
class EpochEnd:
    """An epoch is done; sent again for the epoch that a run resumes from."""

    epoch: int
    """Epochs done, counted from 1."""
    rows: Sequence[EpochRow]
    """Every figure of the epoch; equal on every worker except for wall-clock times."""
    unreadable: tuple[str, ...] = ()
    """Names of the images that did not decode on any worker since the run began or resumed."""
    checkpoint: Path | None = None
    """The file written after this epoch; None if this worker wrote none."""


@dataclass(frozen=True, kw_only=True)
class RunEnd:
    """A run has ended and its record is closed."""

    run_id: str
    folder: Path
    state: RunState
    error: BaseException | None = None


class RunCallback:
    """Receives the events of a run; every method does nothing until it is overridden.

    In a run with several workers, callbacks are called in the process that started the run: on Ray in one thread of it,
    one event after the other; under torchrun on rank 0.
    """

    must_succeed: ClassVar[bool] = False
    """True if an error raised here ends the run. Otherwise it is logged, and the run continues."""

    def on_run_start(self, start: RunStart) -> None:
        """Handle the start of a run, before its first step."""

    def on_step(self, step: StepEnd) -> None:
        """Handle the end of a log interval, several times an epoch."""

    def on_epoch_end(self, epoch: EpochEnd) -> None:
        """Handle the end of an epoch, after its record and its checkpoint are written."""

    def on_run_end(self, end: RunEnd) -> None:
        """Handle the end of a run, however it ended."""

    def on_status(self, message: str) -> None:
        """Handle a message for a person: Ray starts, workers wait for resources."""


@dataclass(frozen=True, kw_only=True)
class TrialInfo:
    """One configuration of a sweep."""

    trial_id: str
    """Four digits, counted from 0000 within its sweep; `baseline` for the configuration trained for comparison."""
    point: Mapping[str, Any]
    """Searched field → value."""
    repeat: int | None = None
    """Number of the one seed, from 0, that is trained after the trials; None: a trial, with all its seeds."""

    @property
    def name(self) -> str:
        """Id of the trial, with the seed if it is one that is trained after the trials."""
        return self.trial_id if self.repeat is None else f"{self.trial_id}-r{self.repeat}"


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """The figures that a trial reports after an epoch."""

    epoch: int
    """Epochs done, counted from 1."""
    score: float
    """The figure that configurations are ranked by, made of the seeds' objectives."""
    mean: float
    """Mean of the objective over the seeds that have not failed."""
    std: float
    """Sample standard deviation over those seeds; 0 for one seed."""
    n: int
    """Seeds that have not failed."""
    costs: Mapping[str, float] = field(default_factory=dict)
    """Cost → mean over those seeds."""
    is_last: bool = False
    """True if the scheduler stops the trial early after this epoch."""


@dataclass(frozen=True, kw_only=True)
class TrialEnd:
    """A trial has ended."""

    state: TrialState
    """`stopped` means stopped early by the scheduler; `unrecorded` means that its results could not be written: it has
    not ended and continues when the sweep is resumed."""
    result: TrialResult | None = None
    """Its last result; None without one."""
    error: str | None = None
    """Why it failed or could not be recorded."""
    process_died: bool = False
    """True if it failed because its process was killed or its node was lost, so that it recorded nothing itself."""


@dataclass(frozen=True, kw_only=True)
class SweepStart:
    """A sweep, or a resumed sweep, begins."""

    sweep_id: str
    folder: Path
    name: str
    objective: str
    """Metric that is maximised, as split/metric/member."""
    searched: Sequence[str]
    """Full paths of the searched fields, in the order of the space."""
    score: Score = MEAN
    """Rule that combines the objectives of a trial's seeds."""
    trials: int
    """Number of trials planned in all."""
    epochs: int
    """Epochs of a trial that trains to the end."""
    time_left_s: float | None = None
    """Seconds after which no trial starts or continues; None: no limit."""
    earlier: Sequence[tuple[TrialInfo, TrialEnd]] = ()
    """Trials that had ended before, in a resumed sweep."""


@dataclass(frozen=True, kw_only=True)
class SweepEnd:
    """A sweep has ended and its record is closed."""

    sweep_id: str
    folder: Path
    state: SweepState
    error: BaseException | None = None
    conclusion: SweepConclusion | None = None
    """Ranking and files; without test scores and files if the sweep did not finish, None if it was not ranked."""


class SweepCallback:
    """Receives the events of a sweep, in the process that runs it; every method does nothing until it is overridden."""

    must_succeed: ClassVar[bool] = False
    """True if an error raised here ends the sweep. Otherwise it is logged, and the sweep continues."""

    def on_sweep_start(self, start: SweepStart) -> None:
        """Handle the start of a sweep, before its first trial."""

    def on_trial_start(self, trial: TrialInfo) -> None:
        """Handle the start of a trial, or its continuation after a resume."""

    def on_trial_result(self, trial: TrialInfo, result: TrialResult) -> None:
        """Handle what a trial reports after an epoch."""

    def on_trial_end(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Handle the end of a trial."""

    def on_heartbeat(self) -> None:
        """Handle a tick, several times a second while trials run, whether or not anything happened to them."""

    def on_sweep_end(self, end: SweepEnd) -> None:
        """Handle the end of a sweep, however it ended."""

    def on_status(self, message: str) -> None:
        """Handle a message for a person: Ray starts, workers wait for resources."""


def notify(callbacks: Iterable[RunCallback | SweepCallback], event: str, *details: object) -> None:
    """Call the method `event` of every callback with `details`.

    An error of a callback that need not succeed is logged with its traceback; the other callbacks are called all the
    same.

    Raises:
        Exception: what a callback with `must_succeed` raised.
    """
    for callback in callbacks:
        try:
            getattr(callback, event)(*details)
        except Exception:
            if callback.must_succeed:
                raise
            _log.warning("callback %s failed in %s and is ignored", type(callback).__name__, event, exc_info=True)
