"""The campaigns that damage files and kill runs: their judges see each kind of fault, and samples find none."""

import json
import random
import signal
import sys
from dataclasses import replace

import pytest

from benchmarks.campaign import runs
from benchmarks.campaign.files import DAMAGES, damaged, judge
from benchmarks.campaign.files_kinds import Kind
from benchmarks.campaign.sweeps_judge import Seen, judge_run
from tests.support import forked
from tests.support.commands import HANGS_AFTER_S
from tests.support.running_command import ROOT

KEY, SECOND = (1, "mean", "validation", "top1"), (2, "mean", "validation", "top1")
FIGURES = {KEY: [50.0], SECOND: [60.0]}
EPOCHS = Kind(make=lambda _: None, file="runs/*/epochs-a*.parquet", read=lambda _: None)
END = Seen({"a": {"state": "finished", "attempt": 2}}, {"a": FIGURES})


@pytest.mark.parametrize("damage", sorted(set(DAMAGES)))
def test_a_damage_changes_what_it_names(damage):
    content = bytes(range(1, 201))
    changed = damaged(content, damage, random.Random(3))
    if damage in ("end", "empty"):
        assert content.startswith(changed)
        assert len(changed) < len(content)
        return
    places = [place for place in range(200) if changed[place] != content[place]]
    assert len(changed) == 200
    assert (len(places) == 1) is (damage == "bit"), places
    assert places[-1] - places[0] < 64


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        ({"value": [1, 2], "said": []}, ("without effect", None)),
        ({"value": [1, 3], "said": []}, ("silently wrong", "wrong")),
        ({"value": [1, 3], "said": ["/there/epochs-a0001.parquet is damaged"]}, ("warning", None)),
        ({"error": "/there/epochs-a0001.parquet is damaged", "said": []}, ("error", None)),
        ({"error": "something is damaged", "said": []}, ("error without the file's name", "wrong")),
        ({"traceback": "Traceback …"}, ("traceback", "wrong")),
        ({"signal": signal.SIGABRT}, ("aborted", "wrong")),
        ({"signal": signal.SIGALRM}, ("hung", "stuck")),
    ],
)
def test_the_judge_of_files_sees(found, outcome):
    assert judge(EPOCHS, [1, 2], found) == outcome


def test_files_of_users_own_may_be_read_as_others_and_their_fields_are_named_instead():
    own = replace(EPOCHS, may_differ=True, is_named=False)
    assert judge(own, [1, 2], {"value": [1, 3], "said": []}) == ("read as another", None)
    assert judge(own, [1, 2], {"error": "something is damaged", "said": []}) == ("error", None)


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (Seen({}, {}), "lost"),
        (replace(END, runs={"a": {"state": "interrupted", "attempt": 2}}), "lost"),
        (replace(END, figures={"a": {KEY: [50.0]}}), "lost"),
        (replace(END, figures={"a": FIGURES | {KEY: [50.0, 50.5]}}), "wrong"),
        (Seen(END.runs | {"b": END.runs["a"]}, END.figures | {"b": FIGURES}), "doubled"),
    ],
)
def test_the_judge_of_runs_sees(end, kind):
    assert judge_run([END], FIGURES).is_clean
    assert getattr(judge_run([END, end], FIGURES), kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["run.parquet", "images.json", "statistics"])
def test_a_sample_of_damaged_files(kind):
    words = ["files", "--kind", kind, "--mutations", "10", "--seed", "7"]
    command = [sys.executable, "-m", "benchmarks.campaign", *words]
    done = forked.run(command, forked.TRAINING, cwd=ROOT, timeout=HANGS_AFTER_S)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert json.loads(done.stdout)["mutations"] == 10


@pytest.mark.slow
def test_a_sample_of_killed_runs(tmp_path):
    found = runs.run(tmp_path, kills=6, seed=7)
    assert found.findings.is_clean, found.figures
    assert found.figures["kills"] >= 5, "all, or all but those of a disk that only root can mount"
