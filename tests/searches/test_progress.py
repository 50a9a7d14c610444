"""What is shown while a sweep runs, on a terminal that is recorded."""

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from searches.progress import SweepProgress
from tests.support.known_trials import sweep, trial
from trainables.trial_job import EPOCH, FAILED, SCORE, TRIAL


def recorded(*, terminal):
    return Console(file=io.StringIO(), record=True, force_terminal=terminal, width=160)


def begun(number, **point):
    """A trial as Tune's callbacks have it."""
    return SimpleNamespace(config={TRIAL: f"{number:04d}"} | point)


def report(score, mean=None, std=0.0, n=1, epoch=3):
    return {EPOCH: epoch, SCORE: score, "mean": score if mean is None else mean, "std": std, "n": n}


def told(console, asked, events, ended=()):
    """The last state of the screen, or every line where there is no terminal."""
    with SweepProgress(asked, console, ended, None) as progress:
        for event, of, result in events:
            progress(event, of, result)
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
def test_the_best_is_told_as_mean_and_std_and_its_score_beside_them(kind, expected, from_records):
    score = 93.15 if kind == "mean" else 92.27
    ended = [trial(0, scores=(score,), mean=93.15, std=0.88, n=3)] if from_records else []
    events = [] if from_records else [("completed", begun(0), report(score, 93.15, 0.88, 3))]
    shown = told(recorded(terminal=True), three_seeds(kind), events, ended)
    assert f"best: {expected.format(unit=' %')}\n" in shown
    assert re.search(rf" {re.escape(expected.format(unit=''))} +", shown)


def test_a_terminal_shows_what_runs_and_then_the_best(monkeypatch):
    monkeypatch.setattr("searches.progress.ROWS_SHOWN", 3)
    point = {"losses.alpha": 0.25, "cohort.size": 3}
    events = [
        ("reported", begun(3, **point), report(55.5, epoch=2)),
        ("completed", begun(4, **point), report(65.0, epoch=2)),
        ("failed", begun(5, **point), {}),
    ]
    shown = told(recorded(terminal=True), sweep(), events, [trial(0), trial(1, scores=(50.0, 60.0, 80.0))])
    rows = [line.replace("│", " ").split() for line in shown.splitlines() if re.search(r"\d/3", line)]
    assert rows == [
        ["running", "2/3", "55.50", "0.25", "3"],
        ["finished", "3/3", "80.00", "0.01", "2"],
        ["finished", "3/3", "70.00", "0", "2"],
    ]
    assert "best: 80.00 %\n" in shown
    assert "4 of 10 trials ended" in shown


def test_elsewhere_every_trial_that_ended_has_one_line():
    events = [
        ("reported", begun(1, **{"losses.alpha": 0.5}), report(60.0, epoch=2)),
        ("completed", begun(1, **{"losses.alpha": 0.5}), {}),
        ("completed", begun(2, **{"losses.alpha": 0.1}), {EPOCH: 0, FAILED: "TrainingError: no"}),
        ("failed", begun(3, **{"losses.alpha": 0.2}), {}),
    ]
    assert told(recorded(terminal=False), sweep(), events, [trial(0)]).splitlines() == [
        "trial 2/10  60.00 % (stopped early)  alpha=0.5",
        "trial 3/10  failed: TrainingError: no  alpha=0.1",
        "trial 4/10  failed: its process died  alpha=0.2",
    ]
