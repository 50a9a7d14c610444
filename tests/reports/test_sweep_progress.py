"""The progress of a sweep, on a terminal that is recorded."""

import dataclasses
import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from mcl_ray.callbacks import SweepEnd, SweepStart, TrialEnd
from mcl_ray.reports.sweep_progress import SweepProgress
from tests.support.known_trials import sweep, trial
from tests.support.trial_events import failed, info, result, stopped


def recorded(*, terminal):
    return Console(file=io.StringIO(), record=True, force_terminal=terminal, width=160)


def start(asked, ended=()):
    return SweepStart(
        sweep_id="digits-1",
        folder=Path("digits-1"),
        name=asked.name,
        objective=asked.objective,
        searched=tuple(asked.space),
        score=asked.scoring.score,
        trials=asked.trials,
        epochs=asked.run.schedule.epochs,
        earlier=[(one.info, one.end) for one in ended],
    )


def shown(console, asked, events, ended=()):
    """The last state of the screen, or every line where there is no terminal."""
    progress = SweepProgress(console)
    progress.on_sweep_start(start(asked, ended))
    for event, *details in events:
        getattr(progress, event)(*details)
    progress.on_sweep_end(SweepEnd(sweep_id="digits-1", folder=Path("digits-1"), state="finished"))
    text = console.export_text()
    return text[text.rindex("digits: ") :] if console.is_terminal else text


def three_seeds(kind):
    return sweep(repeats=3, **{"score.kind": kind})


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("mean", "93.15 ± 0.88{unit}, n = 3"),
        ("mean_minus_std", "93.15 ± 0.88{unit}, n = 3, mean - std 92.27{unit}"),
        ("median", "93.15 ± 0.88{unit}, n = 3, median 92.27{unit}"),
    ],
)
@pytest.mark.parametrize("from_records", [False, True])
def test_the_best_is_shown_as_mean_and_std_with_its_score_beside_them(kind, expected, from_records):
    score = 93.15 if kind == "mean" else 92.27
    ended = [trial(0, scores=(1.0, 2.0, score), mean=93.15, std=0.88, n=3)] if from_records else []
    end = TrialEnd(state="finished", result=result(score, mean=93.15, std=0.88, n=3))
    events = [("on_trial_start", info(1))] if from_records else [("on_trial_end", info(0), end)]
    text = shown(recorded(terminal=True), three_seeds(kind), events, ended)
    assert f"best: {expected.format(unit=' %')}\n" in text
    assert re.search(rf" {re.escape(expected.format(unit=''))} +", text)


def test_a_terminal_shows_running_trials_and_then_the_best(monkeypatch):
    monkeypatch.setattr("mcl_ray.reports.sweep_progress.ROWS_SHOWN", 3)
    point = {"losses.alpha": 0.25, "cohort.size": 3}
    events = [
        ("on_trial_result", info(3, **point), result(55.5, epoch=2)),
        ("on_trial_end", info(4, **point), stopped(65.0, epoch=2)),
        ("on_trial_end", info(5, **point), failed()),
    ]
    text = shown(recorded(terminal=True), sweep(), events, [trial(0), trial(1, scores=(50.0, 60.0, 80.0))])
    rows = [line.replace("│", " ").split() for line in text.splitlines() if re.search(r"\d/3", line)]
    assert rows == [
        ["running", "2/3", "55.50", "0.25", "3"],
        ["finished", "3/3", "80.00", "0.01", "2"],
        ["finished", "3/3", "70.00", "0", "2"],
    ]
    assert "best: 80.00 %\n" in text
    assert "4 of 10 trials ended" in text


def test_every_score_is_whole_in_80_columns_however_many_fields_are_searched():
    console = Console(file=io.StringIO(), record=True, force_terminal=True, width=80)
    point = {f"losses.extra.term{number}": 0.123 + number for number in range(9)}
    progress = SweepProgress(console)
    progress.on_sweep_start(dataclasses.replace(start(sweep()), searched=tuple(point)))
    progress.on_trial_result(info(1, **point), result(93.15, mean=93.15, std=0.88, n=3, epoch=2))
    progress.on_sweep_end(SweepEnd(sweep_id="digits-1", folder=Path("digits-1"), state="finished"))
    text = console.export_text()
    assert "…" not in text
    assert "93.15 ± 0.88, n = 3" in text
    assert all(f"extra.term{number}={value:.3g}" in text for number, value in enumerate(point.values()))


def test_without_a_terminal_every_trial_that_ended_has_one_line():
    events = [
        ("on_trial_result", info(1, **{"losses.alpha": 0.5}), result(60.0, epoch=2)),
        ("on_trial_end", info(1, **{"losses.alpha": 0.5}), stopped(60.0, epoch=2)),
        ("on_trial_end", info(2, **{"losses.alpha": 0.1}), failed("TrainingError: no")),
        ("on_trial_end", info(3, **{"losses.alpha": 0.2}), failed("its process died", process_died=True)),
        ("on_trial_end", info(4, **{"losses.alpha": 0.3}), TrialEnd(state="unrecorded", error="full disk")),
    ]
    assert shown(recorded(terminal=False), sweep(), events, [trial(0)]).splitlines() == [
        "trial 2/10 (0001)  60.00 % (stopped early, epoch 2)  alpha=0.5",
        "trial 3/10 (0002)  failed: TrainingError: no  alpha=0.1",
        "trial 4/10 (0003)  failed: its process died  alpha=0.2",
    ]
