"""The campaign that kills sweeps: its judge sees each kind of fault, and a sample of it finds none."""

import json
from dataclasses import replace

import pytest

from benchmarks.campaign import sweeps
from benchmarks.campaign.sweeps_judge import Seen, judge

KEY = (1, "mean", "validation", "top1")
SECOND = (2, "mean", "validation", "top1")
FIGURES = {KEY: [50.0], SECOND: [60.0]}


def row(trial, state="finished", attempt=1):
    searched = json.dumps({"losses.alpha": int(trial) / 10})
    return {"trial_id": trial, "searched": searched, "state": state, "attempt": attempt, "epochs_done": 2}


EARLIER = Seen({"a": row("0000")}, {"a": FIGURES})
END = Seen({"a": row("0000", attempt=2), "b": row("0001")}, {"a": FIGURES, "b": FIGURES}, "finished")


def judged(end=END, earlier=EARLIER):
    return judge([earlier, end], trials=2, repeats=1)


def test_what_is_right_has_no_findings():
    assert judged().is_clean


def changed(**runs):
    return replace(END, runs=END.runs | runs)


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (replace(END, state="interrupted"), "stuck"),
        (Seen({"b": row("0001")}, {"b": FIGURES}, "finished"), "lost"),
        (changed(b=row("0001", "interrupted")), "lost"),
        (replace(END, figures=END.figures | {"a": {SECOND: [60.0]}}), "lost"),
        (changed(a=row("0000", "stopped")), "regressed"),
        (changed(a=row("0000", attempt=3)), "doubled"),
        (changed(b=row("0001") | {"searched": row("0000")["searched"]}), "doubled"),
        (replace(END, figures=END.figures | {"a": {KEY: [50.0, 50.1], SECOND: [60.0]}}), "wrong"),
    ],
)
def test_the_judge_sees(end, kind):
    assert getattr(judged(end), kind)


@pytest.mark.slow
def test_a_sample_of_the_campaign(tmp_path):
    found = sweeps.run("plain", tmp_path, kills=2, seed=7)
    assert found.findings.is_clean, found.figures
    assert found.figures["kills"] == 2
