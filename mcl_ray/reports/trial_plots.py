"""The PNG figures of a sweep's trials: their learning curves, and the optimisation history."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mcl_ray.analysis.ranking import Ranked
from mcl_ray.config.scoring import Score
from mcl_ray.reports.labels import objective_label
from mcl_ray.reports.style import BLACK, GREY, STYLE, end_percent_at_100, palette
from mcl_ray.reports.trials import Trial, best_so_far, later_values
from mcl_ray.results.queries import Objective


def trial_curves(trials: Sequence[Trial], rungs: Sequence[int], objective: Objective) -> Figure:
    """Draw the objective of every trial by epoch, the best one widest, and the rungs as dotted lines."""
    best = min(trials, key=lambda trial: trial.row.place or len(trials) + 1)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.0, 4.6), layout="constrained")
        panel = figure.subplots()
        for epoch in rungs:
            panel.axvline(epoch, color=GREY, linestyle=":", linewidth=1.0, zorder=1)
        for trial in trials:
            epochs, values = [point.epoch for point in trial.curve], [point.mean for point in trial.curve]
            is_best = trial is best
            colour = BLACK if is_best else palette(0.35 if trial.has_finished else 0.85)
            panel.plot(epochs, values, color=colour, linewidth=2.6 if is_best else 1.1, zorder=4 if is_best else 2)
            marker = "o" if trial.has_finished else "x"
            panel.plot(epochs[-1:], values[-1:], marker=marker, color=colour, markersize=5, zorder=4)
        panel.set_xlabel("Epoch" + (" (dotted: rungs)" if rungs else ""))
        panel.set_ylabel(textwrap.fill(objective_label(objective), 40))
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        low, high = min(later_values(trials)), max(later_values(trials))
        margin = 0.08 * (high - low) or 1.0
        panel.set_ylim(low - margin, high + margin)
        end_percent_at_100(panel, objective)
        figure.suptitle(f"{len(trials)} trials drawn; wide: the best; crosses: stopped early", fontsize=10)
    return figure


def history(trials: Sequence[Trial], baseline: Ranked | None, objective: Objective, mode: str, score: Score) -> Figure:
    """Draw the score of each trial by its number, and the best so far of those that trained to the end."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.0, 4.2), layout="constrained")
        panel = figure.subplots()
        steps = best_so_far(trials, mode)
        if steps:
            steps = [*steps, (trials[-1].number, steps[-1][1])]
            panel.plot(
                *zip(*steps, strict=True), drawstyle="steps-post", color=BLACK, linewidth=1.2, label="best so far"
            )
        _draw_trials(panel, [trial for trial in trials if trial.has_finished], "o", "trained to the end")
        stopped = [trial for trial in trials if not trial.has_finished]
        _draw_trials(panel, stopped, "^", "stopped early, with the epoch")
        for trial in stopped:
            add_epoch(panel, trial.number, trial.row)
        if baseline is not None and baseline.score is not None:
            panel.axhline(baseline.score, color=GREY, linestyle="--", linewidth=1.0, label="baseline")
        panel.set_xlabel("Trial")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panel.set_ylabel(textwrap.fill(score.label(objective_label(objective), mode), 40))
        end_percent_at_100(panel, objective)
        figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=8.5)
    return figure


def _draw_trials(panel: Axes, trials: Sequence[Trial], marker: str, label: str) -> None:
    if not trials:
        return
    numbers, scores = [trial.number for trial in trials], [trial.row.score or 0.0 for trial in trials]
    spread = [trial.row.std or 0.0 for trial in trials]
    if any(spread):
        panel.errorbar(numbers, scores, yerr=spread, fmt="none", ecolor=GREY, elinewidth=0.8, zorder=2)
    face = palette(0.3) if marker == "o" else "none"
    panel.scatter(
        numbers, scores, s=28, marker=marker, facecolors=face, edgecolors=BLACK, label=label, zorder=3, clip_on=False
    )


def add_epoch(panel: Axes, at: float, row: Ranked) -> None:
    """Write the epoch of a row's figure beside its point."""
    beside: dict[str, Any] = {"textcoords": "offset points", "ha": "left", "va": "bottom", "fontsize": 7, "color": GREY}
    panel.annotate(str(row.epochs_done), (at, row.score or 0.0), (3, 2), **beside)
