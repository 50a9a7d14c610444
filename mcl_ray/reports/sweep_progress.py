"""The progress of a sweep for a person: a live table on a terminal or in a notebook, one line a trial elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from mcl_ray.callbacks import SweepCallback, SweepEnd, SweepStart, TrialEnd, TrialInfo, TrialResult

ROWS_SHOWN = 20


@dataclass
class _Row:
    """A trial as a row of the table."""

    point: Mapping[str, Any]
    state: str = "running"
    result: TrialResult | None = None
    is_further: bool = False
    """True for one further seed, trained after the trials."""

    @property
    def order(self) -> tuple[bool, float]:
        """Key by which rows are sorted, the highest first: trials that trained to the end before others."""
        return self.state == "finished", float("-inf") if self.result is None else self.result.score


class SweepProgress(SweepCallback):
    """Shows the trials of a sweep on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def on_sweep_start(self, start: SweepStart) -> None:
        """Show the trials that had ended before."""
        self._sweep, self._started = start, time.monotonic()
        self._ended = len(start.earlier)
        self._rows = {
            trial.trial_id: _Row(trial.point, end.state, None if end.state == "failed" else end.result)
            for trial, end in start.earlier
        }
        if self._console.is_terminal or self._console.is_jupyter:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()

    def on_trial_start(self, trial: TrialInfo) -> None:
        """Show a trial that starts or continues."""
        self._rows.setdefault(trial.name, _Row(trial.point, is_further=trial.repeat is not None))
        self._refresh()

    def on_trial_result(self, trial: TrialInfo, result: TrialResult) -> None:
        """Show the score of an epoch."""
        self._rows.setdefault(trial.name, _Row(trial.point)).result = result
        self._refresh()

    def on_trial_end(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Show how a trial ended."""
        if end.state == "unrecorded":
            return
        row = self._rows.setdefault(trial.name, _Row(trial.point))
        row.state, row.result = end.state, end.result or row.result
        self._ended += trial.repeat is None
        if self._live is None:
            self._print_line(trial, row, end)
        self._refresh()

    def on_sweep_end(self, end: SweepEnd) -> None:
        """Leave the last state on the screen."""
        self.stop()

    def stop(self) -> None:
        """Stop the live table, if there is one."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._view(), refresh=True)

    def _print_line(self, trial: TrialInfo, row: _Row, end: TrialEnd) -> None:
        early = f" (stopped early, epoch {row.result.epoch})" if row.state == "stopped" and row.result else ""
        outcome = f"failed: {end.error}" if row.state == "failed" else f"{self._figures(row, ' %')}{early}"
        values = ", ".join(f"{_short(path)}={_value(value)}" for path, value in row.point.items())
        name = f"trial {self._ended}/{self._sweep.trials}" if trial.repeat is None else f"seed {trial.name}"
        self._console.print(f"{name}  {outcome}  {values}", soft_wrap=True)

    def _view(self) -> Group:
        ranked = sorted(self._rows.values(), key=lambda row: row.order, reverse=True)
        running = [row for row in ranked if row.state == "running"]
        others = [row for row in ranked if row.state != "running"]
        table = Table(title=f"{self._sweep.name}: {self._sweep.objective} (%)", title_justify="left")
        for column in ("state", "epoch", "score, %", *map(_short, self._sweep.searched)):
            table.add_column(column, justify="left" if column == "state" else "right", no_wrap=True)
        for row in running + others[: max(0, ROWS_SHOWN - len(running))]:
            values = (_value(row.point.get(path, "–")) for path in self._sweep.searched)
            epoch = 0 if row.result is None else row.result.epoch
            table.add_row(row.state, f"{epoch}/{self._sweep.epochs}", self._figures(row), *values)
        return Group(table, self._best(ranked), self._status())

    def _best(self, ranked: Sequence[_Row]) -> str:
        best = next((row for row in ranked if row.result and row.state != "failed" and not row.is_further), None)
        if best is None or best.result is None:
            return "best: none yet"
        epoch = "" if best.state == "finished" else f" at epoch {best.result.epoch}"
        return f"best: {self._figures(best, ' %')}{epoch}"

    def _figures(self, row: _Row, unit: str = "") -> str:
        """Return mean ± std of several seeds, with the score beside them where it is not the mean."""
        result, score = row.result, self._sweep.score
        if result is None:
            return "–"
        if result.n == 1:
            return f"{result.score:.2f}{unit}"
        figures = f"{result.mean:.2f} ± {result.std:.2f}{unit}, n = {result.n}"
        return figures if score.kind == "mean" else f"{figures}, {score.name()} {result.score:.2f}{unit}"

    def _status(self) -> str:
        ended_now, elapsed = self._ended - len(self._sweep.earlier), time.monotonic() - self._started
        limit = "" if self._sweep.time_left_s is None else f" of at most {_clock(self._sweep.time_left_s)}"
        remaining = self._sweep.trials - self._ended
        left = f", about {_clock(elapsed / ended_now * remaining)} left" if ended_now else ""
        return f"{self._ended} of {self._sweep.trials} trials ended, {_clock(elapsed)}{limit}{left}"


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
