"""What a person sees while a sweep runs: a live table on a terminal, one line a finished trial elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from ray.tune.experiment import Trial
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from searches.spec.experiment import Experiment
from searches.trial_history import KnownTrial
from searches.tune.trial_recorder import failure
from trainables.trial_job import EPOCH, SCORE, TRIAL, point_of

ROWS_SHOWN = 20


@dataclass
class _Shown:
    """A trial as a row of the table."""

    point: Mapping[str, Any]
    state: str = "running"
    epoch: int = 0
    result: Mapping[str, Any] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """What it is ordered by."""
        return float(self.result.get(SCORE, float("-inf")))


class SweepProgress:
    """Shows the trials as the relay tells of them."""

    def __init__(
        self, sweep: Experiment, console: Console, ended: Sequence[KnownTrial], time_left_s: float | None
    ) -> None:
        self._sweep, self._console, self._time_left_s = sweep, console, time_left_s
        self._epochs = sweep.run.schedule.epochs
        self._started = time.monotonic()
        self._done_before = self._done = len(ended)
        self._shown = {trial.trial_id: _known(trial) for trial in ended}
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.update(self._view(), refresh=True)
            self._live.stop()

    def __call__(self, event: str, trial: Trial, result: Mapping[str, Any]) -> None:
        """Show what changed."""
        row = self._shown.setdefault(trial.config[TRIAL], _Shown(point_of(trial.config)))
        if SCORE in result:
            row.result, row.epoch = dict(result), result[EPOCH]
        if event in ("completed", "failed"):
            self._done += 1
            why = failure(result) or ("its process died" if event == "failed" else None)
            row.state = "failed" if why else "finished" if row.epoch == self._epochs else "stopped"
            if not self._live:
                self._say(row, why)
        if self._live:
            self._live.update(self._view(), refresh=True)

    @property
    def elapsed_s(self) -> float:
        """Since this part of the sweep began."""
        return time.monotonic() - self._started

    def _say(self, row: _Shown, why: str | None) -> None:
        early = " (stopped early)" if row.state == "stopped" else ""
        outcome = f"failed: {why}" if why else f"{self._figures(row, ' %')}{early}"
        values = ", ".join(f"{_short(path)}={_value(value)}" for path, value in row.point.items())
        self._console.print(f"trial {self._done}/{self._sweep.trials}  {outcome}  {values}", soft_wrap=True)

    def _view(self) -> Group:
        ranked = sorted(self._shown.values(), key=lambda row: row.score, reverse=True)
        running = [row for row in ranked if row.state == "running"]
        others = [row for row in ranked if row.state != "running"]
        table = Table(title=f"{self._sweep.name}: {self._sweep.objective} (%)", title_justify="left")
        for column in ("state", "epoch", "score, %", *map(_short, self._sweep.space)):
            table.add_column(column, justify="left" if column == "state" else "right", no_wrap=True)
        for row in running + others[: max(0, ROWS_SHOWN - len(running))]:
            values = (_value(row.point.get(path, "")) for path in self._sweep.space)
            table.add_row(row.state, f"{row.epoch}/{self._epochs}", self._figures(row), *values)
        return Group(table, self._best(ranked), self._status())

    def _best(self, ranked: Sequence[_Shown]) -> str:
        best = next((row for row in ranked if row.result and row.state != "failed"), None)
        return "best: none yet" if best is None else f"best: {self._figures(best, ' %')}"

    def _figures(self, row: _Shown, unit: str = "") -> str:
        """Of several seeds the mean ± std, and the score beside it where a sweep is scored by another figure."""
        n, score = row.result.get("n", 1), self._sweep.scoring.score
        if not row.result or n == 1:
            return f"{row.score:.2f}{unit}" if row.result else "–"
        told = f"{row.result['mean']:.2f} ± {row.result['std']:.2f}{unit}, n = {n}"
        return told if score.kind == "mean" else f"{told}, {score.name()} {row.score:.2f}{unit}"

    def _status(self) -> str:
        done_now, elapsed = self._done - self._done_before, self.elapsed_s
        limit = "" if self._time_left_s is None else f" of at most {_clock(self._time_left_s)}"
        left = f", about {_clock(elapsed / done_now * (self._sweep.trials - self._done))} left" if done_now else ""
        return f"{self._done} of {self._sweep.trials} trials ended, {_clock(elapsed)}{limit}{left}"


def _known(trial: KnownTrial) -> _Shown:
    epoch, score = trial.curve[-1] if trial.curve else (0, None)
    figures = {SCORE: score, "mean": trial.mean, "std": trial.std, "n": trial.n}
    return _Shown(trial.point, trial.state, epoch, {} if score is None or trial.state == "failed" else figures)


def _short(path: str) -> str:
    return path.removeprefix("losses.").replace("cohort.size", "peers")


def _value(value: object) -> str:
    if isinstance(value, tuple | list):
        return "+".join(map(str, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
