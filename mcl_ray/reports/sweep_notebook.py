"""The progress of a sweep in a notebook: a bar of the trials that ended, and the best score so far."""

from __future__ import annotations

from mcl_ray.callbacks import SweepCallback, SweepEnd, SweepStart, TrialEnd, TrialInfo
from mcl_ray.reports.notebook import NotebookProgressBar


class NotebookSweepProgress(SweepCallback):
    """Updates a progress bar in place."""

    def __init__(self) -> None:
        self._bar = NotebookProgressBar()

    def on_sweep_start(self, start: SweepStart) -> None:
        """Show the trials that had ended before."""
        self._sweep, self._ended = start, len(start.earlier)
        scores = (end.result.score for _, end in start.earlier if end.state != "failed" and end.result)
        self._best = max(scores, default=None)
        self._show()

    def on_trial_end(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Show one more trial that ended."""
        if end.state == "unrecorded" or trial.repeat is not None:
            return
        self._ended += 1
        if end.state != "failed" and end.result is not None:
            self._best = end.result.score if self._best is None else max(self._best, end.result.score)
        self._show()

    def on_status(self, message: str) -> None:
        """Show a message until the next event."""
        self._bar.update(text=message)

    def on_sweep_end(self, end: SweepEnd) -> None:
        """Close the bar."""
        self._bar.close()

    def _show(self) -> None:
        best = "" if self._best is None else f", best {self._best:.2f}"
        text = f"{self._sweep.sweep_id}: {self._ended} of {self._sweep.trials} trials ended{best}"
        self._bar.update(self._ended / self._sweep.trials, text)
