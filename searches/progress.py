"""What a person sees while a sweep runs: a live table on a terminal, one line a finished trial elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ray.tune.experiment import Trial
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from searches.spec import SweepSpec

ROWS_SHOWN = 20
ENDED = (Trial.TERMINATED, Trial.ERROR)


class SweepProgress:
    """Shows the trials as the relay tells of them."""

    def __init__(self, sweep: SweepSpec, console: Console, why: Callable[[Trial], str]) -> None:
        self._sweep, self._console, self._why = sweep, console, why
        self._epochs = sweep.run.schedule.epochs
        self._started = time.monotonic()
        self.trials: dict[str, Trial] = {}
        self._done_before = 0
        self.finished: set[str] = set()
        """Trials that came to their end: trained, stopped early, or failed. Tune's own state says so of others too."""
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> SweepProgress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.update(self._view(), refresh=True)
            self._live.stop()

    def __call__(self, event: str, trial: Trial, trials: list[Trial]) -> None:
        """Show what changed."""
        if not self.trials:  # the first word of a sweep that goes on tells of all that was done before
            self.finished = {known.trial_id for known in trials if known is not trial and known.status in ENDED}
            self._done_before = len(self.finished)
        self.trials = {known.trial_id: known for known in trials}
        if event in ("completed", "failed"):
            self.finished.add(trial.trial_id)
        if self._live:
            self._live.update(self._view(), refresh=True)
        elif event == "completed":
            early = "" if (trial.last_result or {}).get("epoch") == self._epochs else " (stopped early)"
            self._say(trial, f"{_score(trial, self._sweep.objective)} %{early}")
        elif event == "failed":
            self._say(trial, f"failed: {self._why(trial)}")

    def _say(self, trial: Trial, outcome: str) -> None:
        values = ", ".join(f"{_short(path)}={_shown(value)}" for path, value in _point(trial).items())
        self._console.print(f"trial {len(self.finished)}/{self._sweep.trials}  {outcome}  {values}", highlight=False)

    def _view(self) -> Group:
        ranked = sorted(self.trials.values(), key=lambda t: _value(t, self._sweep.objective), reverse=True)
        running = [trial for trial in ranked if trial.status == Trial.RUNNING]
        others = [trial for trial in ranked if trial.status != Trial.RUNNING]
        table = Table(title=f"{self._sweep.name}: {self._sweep.objective} (%)", title_justify="left")
        for column in ("state", "epoch", "score, %", *map(_short, self._sweep.space)):
            table.add_column(column, justify="left" if column == "state" else "right", no_wrap=True)
        for trial in running + others[: max(0, ROWS_SHOWN - len(running))]:
            epoch = (trial.last_result or {}).get("epoch", 0)
            values = (_shown(_point(trial).get(path, "")) for path in self._sweep.space)
            state = trial.status.lower().replace("terminated", "done" if epoch == self._epochs else "stopped")
            table.add_row(state, f"{epoch}/{self._epochs}", _score(trial, self._sweep.objective), *values)
        return Group(table, self._status())

    def _status(self) -> str:
        finished, elapsed = len(self.finished), time.monotonic() - self._started
        done_now = finished - self._done_before
        left = f", about {_clock(elapsed / done_now * (self._sweep.trials - finished))} left" if done_now else ""
        return f"{finished} of {self._sweep.trials} trials finished in {_clock(elapsed)}{left}"


def _point(trial: Trial) -> dict[str, Any]:
    return trial.config or {}


def _value(trial: Trial, objective: str) -> float:
    return float((trial.last_result or {}).get(objective, float("-inf")))


def _score(trial: Trial, objective: str) -> str:
    value = _value(trial, objective)
    return f"{value:.2f}" if value > float("-inf") else "–"


def _short(path: str) -> str:
    return path.removeprefix("losses.").replace("cohort.size", "peers")


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
