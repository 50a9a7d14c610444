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
from mcl_ray.reports.fitting import Fitting

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
        self._running: dict[str, _Row] = {}
        self._ended_rows: list[_Row] = []
        """The best that ended, as many as are shown, the highest first."""
        self._best_ended: _Row | None = None
        for trial, end in start.earlier:
            self._add_ended(_Row(trial.point, end.state, None if end.state == "failed" else end.result))
        if self._console.is_terminal or self._console.is_jupyter:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()

    def on_trial_start(self, trial: TrialInfo) -> None:
        """Show a trial that starts or continues."""
        self._row_of(trial)
        self._refresh()

    def on_trial_result(self, trial: TrialInfo, result: TrialResult) -> None:
        """Show the score of an epoch."""
        self._row_of(trial).result = result
        self._refresh()

    def on_trial_end(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Show how a trial ended."""
        if end.state == "unrecorded":
            return
        row = self._row_of(trial)
        del self._running[trial.name]
        row.state, row.result = end.state, end.result or row.result
        self._add_ended(row)
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

    def _row_of(self, trial: TrialInfo) -> _Row:
        """Return the row of a trial that runs."""
        return self._running.setdefault(trial.name, _Row(trial.point, is_further=trial.repeat is not None))

    def _add_ended(self, row: _Row) -> None:
        """Keep a row of a trial that ended if it is among the best: a sweep may have very many trials."""
        self._ended_rows = sorted([*self._ended_rows, row], key=lambda one: one.order, reverse=True)[:ROWS_SHOWN]
        self._best_ended = self._best_of([*([self._best_ended] if self._best_ended else []), row])

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._view(), refresh=True)

    def _print_line(self, trial: TrialInfo, row: _Row, end: TrialEnd) -> None:
        early = f" (stopped early, epoch {row.result.epoch})" if row.state == "stopped" and row.result else ""
        outcome = f"failed: {end.error}" if row.state == "failed" else f"{self._figures(row, ' %')}{early}"
        is_trial = trial.repeat is None
        name = f"trial {self._ended}/{self._sweep.trials} ({trial.name})" if is_trial else f"seed {trial.name}"
        self._console.print(f"{name}  {outcome}  {_configuration(row.point)}", soft_wrap=True)

    def _view(self) -> Group:
        running = sorted(self._running.values(), key=lambda row: row.order, reverse=True)
        rows = running + self._ended_rows[: max(0, ROWS_SHOWN - len(running))]
        searched = self._sweep.searched
        wide, narrow = self._table(*map(_short, searched)), self._table()
        narrow.add_column("configuration")
        for row in rows:
            epoch = 0 if row.result is None else row.result.epoch
            cells = (row.state, f"{epoch}/{self._sweep.epochs}", self._figures(row))
            wide.add_row(*cells, *(_value(row.point.get(path, "–")) for path in searched))
            narrow.add_row(*cells, _configuration(row.point))
        return Group(Fitting((wide, narrow)), self._best(running), self._status())

    def _table(self, *fields: str) -> Table:
        """Return an empty table with a column for each field."""
        table = Table(title=f"{self._sweep.name}: {self._sweep.objective} (%)", title_justify="left")
        for column in ("state", "epoch", "score, %", *fields):
            table.add_column(column, justify="left" if column == "state" else "right", no_wrap=True)
        return table

    @staticmethod
    def _best_of(rows: Sequence[_Row]) -> _Row | None:
        """Return the best trial with a figure; the first of equal ones."""
        with_figures = (row for row in rows if row.result and row.state != "failed" and not row.is_further)
        return max(with_figures, key=lambda row: row.order, default=None)

    def _best(self, running: Sequence[_Row]) -> str:
        best = self._best_of([*([self._best_ended] if self._best_ended else []), *running])
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


def _configuration(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{_short(path)}={_value(value)}" for path, value in point.items())


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
