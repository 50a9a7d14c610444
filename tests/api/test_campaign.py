"""The campaign that kills the service: its judge sees each kind of fault, and a sample of it finds none."""

from dataclasses import replace

import pytest

from benchmarks.campaign import service
from benchmarks.campaign.service_judge import Evidence, judge

RIGHT = Evidence(
    answers=[
        {"what": "accepted", "key": "k", "job": "a", "ends": "succeeded"},
        {"what": "accepted", "key": "k", "job": "a", "ends": "succeeded"},
        {"what": "seen", "job": "a", "state": "running", "attempt": 1},
        {"what": "seen", "job": "a", "state": "succeeded", "attempt": 2},
    ],
    effects=[("start", "a", 1), ("fenced", "a", 1), ("start", "a", 2), ("done", "a", 2)],
    done={("a", 2)},
    rows={"a": {"key": "k", "state": "succeeded", "attempt": 2, "reason": ""}},
    events=[("a", "queued", 1), ("a", "running", 1), ("a", "queued", 2), ("a", "succeeded", 2)],
)
ROW = RIGHT.rows["a"]


def test_what_is_right_has_no_findings():
    assert judge(RIGHT).is_clean


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"rows": {}}, "lost"),
        ({"rows": {"a": ROW | {"state": "failed"}}}, "lost"),
        ({"rows": {"a": ROW | {"state": "cancelled"}}}, "lost"),
        ({"done": {("a", 1)}}, "lost"),
        ({"rows": {"a": ROW, "b": ROW}}, "doubled"),
        ({"answers": [*RIGHT.answers, RIGHT.answers[0] | {"job": "b"}]}, "doubled"),
        ({"effects": [*RIGHT.effects, ("start", "a", 2)]}, "doubled"),
        ({"effects": [*RIGHT.effects, ("done", "a", 1)]}, "doubled"),
        ({"done": {("a", 1), ("a", 2)}}, "doubled"),
        ({"events": [*RIGHT.events, ("a", "running", 2)]}, "regressed"),
        ({"answers": [*RIGHT.answers, RIGHT.answers[2]]}, "regressed"),
        ({"rows": {"a": ROW | {"state": "running"}}}, "stuck"),
    ],
)
def test_the_judge_sees(change, kind):
    assert getattr(judge(replace(RIGHT, **change)), kind)


@pytest.mark.slow
def test_a_sample_of_the_campaign(ray, tmp_path):
    found = service.run(f"sqlite:///{tmp_path / 'jobs.db'}", ray, tmp_path, kills=10, seed=7)
    assert found.findings.is_clean, found.figures
    assert found.figures["kinds"] == {"api": 9, "driver": 1}
