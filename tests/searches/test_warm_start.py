"""Which trials of earlier sweeps a warm start takes, from records whose truth is known, and by the command."""

import dataclasses
import json

import pytest

from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.config.overrides import replace
from mcl_ray.errors import SpecError
from mcl_ray.reports.sweep_report import sweep_report
from mcl_ray.results.store import EpochRow, RunWriter, SweepWriter
from mcl_ray.results.warm_start import WARM_START_FILE, WarmStart, read_warm_start
from searches.estimate import estimate_sweep
from searches.warm_start import EarlierTrials, check_comparable, check_taken, select
from tests.support.commands import run_forked
from tests.support.forked import TRAINING
from tests.support.known_trials import SPACE, sweep, trial

LR = {"optimizer.lr": {"kind": "float", "low": 0.01, "high": 0.2}}
SIZE = {"cohort.size": SPACE["cohort.size"]}


def searched(space, **fields):
    return replace(sweep(), {"space": space, **fields})


@pytest.mark.parametrize(
    ("field", "value", "difference"),
    [
        ("run.optimizer.lr", 0.01, r"run\.optimizer\.lr=0\.01 \(here 0\.05\)"),
        ("run.batch.size", 20, r"run\.batch\.size=20 \(here 40\)"),
        ("run.cohort.networks", "resnet20", r"run\.cohort\.networks=\[resnet20\] \(here \[resnet8\]\)"),
        ("run.losses.tau", 0.5, r"run\.losses\.tau=0\.5 \(here 0\.1\)"),
        ("run.schedule.epochs", 4, r"run\.schedule\.epochs=4 \(here 3\)"),
        ("run.data.validation_fraction", 0.1, r"run\.data\.validation_fraction=0\.1 \(here 0\.2\)"),
        ("objective", "validation/top1/best", r"objective=validation/top1/best \(here validation/top1/mean\)"),
    ],
)
def test_a_warm_start_needs_the_same_run_outside_both_spaces(field, value, difference):
    with pytest.raises(SpecError, match=rf"with the same run outside both spaces, but earlier-1 has {difference}$"):
        check_comparable(sweep(), replace(sweep(), {field: value}), "earlier-1")


@pytest.mark.parametrize("field", ["run.losses.alpha", "run.cohort.size", "run.seed", "run.recipe"])
def test_fields_that_one_of_them_searches_and_labels_may_differ(field):
    value = {"run.losses.alpha": 0.3, "run.cohort.size": 3, "run.seed": 5, "run.recipe": "other"}[field]
    check_comparable(sweep(), replace(sweep(), {field: value}), "earlier-1")


def test_a_field_that_only_the_earlier_one_searches_may_differ():
    earlier = replace(sweep(), {"run.optimizer.lr": 0.05, "space": sweep().model_dump()["space"] | LR})
    check_comparable(sweep(), earlier, "earlier-1")


def test_trials_outside_of_the_space_and_those_without_a_score_are_left_out_each_with_the_reason():
    narrow = SPACE | {"losses.alpha": {"kind": "float", "low": 0.0, "high": 0.5}}
    trials = [trial(0), *(trial(number, alpha=number / 10) for number in range(4, 10))]
    trials += [
        trial(10, "failed", ()),
        trial(11, "unfinished"),
        trial(12, "stopped", (30.0,)),
        trial(13, "stopped", ()),
    ]
    found = select(searched(narrow), sweep(), "digits-0123456789-1", trials)
    assert [one.trial_id for one in found.taken] == ["0000", "0004", "0005", "0012"]
    assert str(found.summary) == (
        "4 of 11 trials of digits-0123456789-1; left out: 4 with losses.alpha=0.6, 0.7, 0.8, … (here 0.0 to 0.5), "
        "1 failed, 1 unfinished, 1 without a score"
    )
    assert found.summary.num_trials == len(trials)


def test_a_trial_counts_with_the_values_that_its_sweep_did_not_search():
    """Its point is completed with the run that it trained."""
    found = select(searched(SPACE | LR), sweep(), "earlier-1", [trial(3)])
    (taken,) = found.taken
    assert taken.point == {"losses.alpha": 0.03, "cohort.size": 2, "optimizer.lr": 0.05}
    high = {"optimizer.lr": {"kind": "choice", "values": [0.1, 0.2]}}
    outside = select(searched(SPACE | high), sweep(), "earlier-1", [trial(3)])
    assert outside.summary.left_out == {"with optimizer.lr=0.05 (here 0.1, 0.2)": 1}


def test_a_field_that_this_search_fixes_must_have_its_value():
    alone = searched({"losses.alpha": SPACE["losses.alpha"]}, **{"run.cohort.size": 4})
    found = select(alone, sweep(), "earlier-1", [trial(0, size=4), trial(1, size=2), trial(2, size=3)])
    assert [dict(one.point) for one in found.taken] == [{"losses.alpha": 0.0}]
    assert found.summary.left_out == {"with cohort.size=2, 3 (here 4)": 2}


def test_a_field_without_effect_may_differ():
    """beta is a weight between peers: a single network trains as well whatever it is."""
    beta = {"losses.beta": {"kind": "float", "low": 0.0, "high": 0.4}}
    earlier = searched(SIZE | beta, **{"run.losses.beta": 0.4})
    fixed = searched(SIZE, **{"run.losses.beta": 0.1})
    points = [{"cohort.size": 1}, {"cohort.size": 2, "losses.beta": 0.4}, {"cohort.size": 2, "losses.beta": 0.1}]
    trials = [dataclasses.replace(trial(number), point=point) for number, point in enumerate(points)]
    found = select(fixed, earlier, "earlier-1", trials)
    assert [dict(one.point) for one in found.taken] == [{"cohort.size": 1}, {"cohort.size": 2}]
    assert found.summary.left_out == {"with losses.beta=0.4 (here 0.1)": 1}


def test_a_warm_start_must_take_a_trial():
    none = WarmStart(sweep_id="earlier-1", num_taken=0, left_out={"failed": 2})
    some = WarmStart(sweep_id="earlier-2", num_taken=1, left_out={})
    with pytest.raises(SpecError, match=r"`trials taken >= 1` .* 0 of 2 trials of earlier-1; left out: 2 failed$"):
        check_taken([EarlierTrials(taken=[], summary=none)])
    check_taken([EarlierTrials(taken=[], summary=none), EarlierTrials(taken=[trial(0)], summary=some)])
    check_taken([])


@pytest.fixture
def earlier(tmp_path):
    """Record a sweep of two trials in `results`, with alpha=0.2 and 0.8, and return its id."""
    asked = sweep()
    with SweepWriter.create(
        tmp_path / "results", asked.name, asked, objective=asked.objective, mode="max", trials_planned=2
    ) as writer:
        for number, alpha in enumerate((0.2, 0.8)):
            point = {"losses.alpha": alpha, "cohort.size": 2}
            labels = {"searched": point, "sweep_id": writer.sweep_id, "trial_id": f"{number:04d}"}
            run_id = f"{writer.sweep_id}-{number:04d}-r0"
            with RunWriter.begin(writer.folder, run_id, asked.trial_run(point), **labels) as run:
                run.record_epoch(3, [EpochRow("mean", "validation", "top1", 50.0 + number)])
                run.finish("finished")
        writer.finish("finished")
    return writer.sweep_id


def test_the_estimate_has_what_a_warm_start_takes(earlier, tmp_path):
    half = SPACE | {"losses.alpha": {"kind": "float", "low": 0.0, "high": 0.5}}
    asked = searched(half, warm_start=[earlier])
    estimate = estimate_sweep(asked, ExecutionOptions(results=tmp_path / "results"))
    assert estimate.warm_start == [
        WarmStart(sweep_id=earlier, num_taken=1, left_out={"with losses.alpha=0.8 (here 0.0 to 0.5)": 1})
    ]


def asking(earlier, low, high):
    space = f"space={{alpha: {{kind: float, low: {low}, high: {high}}}, cohort.size: {{kind: int, low: 1, high: 4}}}}"
    return ("sweep", "digits", "epochs=3", "trials=1", space, f"warm_start=[{earlier}]")


@pytest.mark.parametrize("options", [("--dry-run",), ()])
def test_a_warm_start_that_takes_nothing_is_refused_before_anything_starts(earlier, tmp_path, options):
    seen = run_forked(tmp_path, *asking(earlier, 0.3, 0.5), *options)
    assert seen.code == 2, seen
    assert f"`trials taken >= 1` must hold, but got 0 of 2 trials of {earlier}; left out: 2 with" in seen.stderr
    assert "losses.alpha=0.2, 0.8 (here 0.3 to 0.5)" in seen.stderr
    assert [folder.name for folder in (tmp_path / "results" / "sweeps").iterdir()] == [earlier]


@pytest.mark.slow
def test_a_dry_run_says_what_a_warm_start_takes(earlier, tmp_path):
    seen = run_forked(tmp_path, *asking(earlier, 0.0, 0.5), "--dry-run", modules=TRAINING)
    assert seen.code == 0, seen
    (line,) = [line for line in seen.stdout.splitlines() if line.startswith("# warm start")]
    assert line.endswith(f"1 of 2 trials of {earlier}; left out: 1 with losses.alpha=0.8 (here 0.0 to 0.5)")


def test_the_record_of_a_warm_start_is_read_back_and_shown_in_the_report(earlier, tmp_path):
    folder = tmp_path / "results" / "sweeps" / earlier
    assert read_warm_start(folder) == []
    assert "warm start" not in sweep_report(folder).facts
    entry = {"sweep_id": "digits-0123456789-1", "num_taken": 9, "left_out": {"failed": 3}}
    (folder / WARM_START_FILE).write_text(json.dumps([entry]))
    assert sweep_report(folder).facts["warm start"] == "9 of 12 trials of digits-0123456789-1; left out: 3 failed"
