import html
import json
import math

import pytest

from mcl_ray.analysis.sweep_ranking import rank_sweep
from mcl_ray.reports.build import write_report
from mcl_ray.reports.improvement import improvement_line
from mcl_ray.reports.sweep_summary import sweep_summary
from mcl_ray.results.store import EpochRow, RunWriter, SweepWriter
from mcl_ray.sdk.sweep import Sweep
from tests.support.synthetic import PROVENANCE, SweepSpec, spec, write_sweep

OWN = {"losses": {"alpha": 0.1, "beta": 0.1, "gamma": 1.0, "lam": 1.0}}


def write(root, values, own=OWN, state="finished", **fields):
    """Write a sweep whose configurations have these values of the objective, one for each seed."""
    planned = SweepSpec(trials=len(values), repeats=max(map(len, values.values())), run=own, **fields)
    objective = {"objective": "validation/top1/mean", "mode": "max", "trials_planned": len(values)}
    with SweepWriter.create(root, "known", planned, provenance=PROVENANCE, **objective) as sweep:
        for trial, (alpha, seeds) in enumerate(values.items()):
            for seed, value in enumerate(seeds):
                where = {"searched": {"losses.alpha": alpha}, "sweep_id": sweep.sweep_id, "trial_id": str(trial)}
                with RunWriter.create(
                    sweep.folder, spec(2, 1, seed, alpha=alpha), provenance=PROVENANCE, **where
                ) as run:
                    run.record_epoch(1, [EpochRow("mean", "validation", "top1", value)])
                    run.finish("finished")
        sweep.finish(state)
    return sweep.folder


def test_the_answer_compares_the_best_with_the_runner_up_and_with_the_published_weights(tmp_path):
    folder = write(tmp_path, {0.1: [90.0, 80.0, 70.0], 0.3: [92.1, 82.0, 71.9], 0.5: [91.0, 83.0, 71.7]})
    answer = sweep_summary(folder)["answer"]
    assert answer["best"]["searched"] == {"losses.alpha": 0.3}
    assert (answer["best"]["n"], answer["best"]["value"]) == (3, pytest.approx(82.0))
    assert answer["runner_up"]["searched"] == {"losses.alpha": 0.5}
    assert answer["runner_up"]["difference"] == pytest.approx(0.1)
    assert not answer["runner_up"]["paired"]["excludes_zero"]
    own = answer["own_point"]
    assert (own["is_own_point"], own["is_published"], own["is_best"]) == (True, True, False)
    assert own["paired"]["mean"] == pytest.approx(2.0)
    assert own["paired"]["excludes_zero"]


def test_a_notebook_shows_the_comparison_with_the_published_point(tmp_path):
    own = spec(2, 1, alpha=0.1).model_dump(mode="json")
    folder = write(tmp_path, {0.1: [90.0, 80.0, 70.0], 0.3: [92.1, 82.0, 71.9]}, own)
    line = improvement_line(rank_sweep(folder).improvement, "validation/top1/mean")
    assert "the published point" in line
    assert html.escape(line) in Sweep(folder)._repr_html_()


def test_the_test_figures_of_the_answer_have_their_spread_and_number_of_seeds(tmp_path):
    folder = write(tmp_path, {0.1: [90.0, 80.0]})
    for run, value in zip(sorted((folder / "runs").iterdir()), (70.0, 72.0), strict=True):
        with RunWriter.amend(run) as writer:
            writer.record_epoch(1, [EpochRow("mean", split, "top1", value) for split in ("validation", "test")])
            writer.finish("finished")
    (mean,) = sweep_summary(folder)["answer"]["test"]
    assert mean == {"member": "mean of peers", "value": 71.0, "std": pytest.approx(2**0.5), "n": 2}


def test_one_seed_has_no_interval(tmp_path):
    own = OWN | {"losses": OWN["losses"] | {"gamma": 0.5}}
    answer = sweep_summary(write(tmp_path, {0.1: [90.0], 0.3: [91.0]}, own))["answer"]
    assert (answer["best"]["interval"], answer["best"]["std"], answer["runner_up"]["paired"]) == (None, None, None)
    assert not answer["own_point"]["is_published"]


def test_without_a_score_there_is_no_answer(tmp_path):
    found = sweep_summary(write(tmp_path, {0.1: [math.nan], 0.3: [math.nan]}, state="failed"))
    assert found["answer"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == json.loads(json.dumps(found))


def test_the_baseline_is_compared_and_is_no_configuration_of_the_search(tmp_path):
    trials, baseline = [{"losses.alpha": alpha} for alpha in (0.1, 0.3, 0.5)], {"cohort.size": 1}
    found = sweep_summary(write_sweep(tmp_path, trials, seeds=(0, 1), baseline=baseline))
    assert (found["sweep"]["configurations"], found["sweep"]["trials_ended"]) == (3, 3)
    (row,) = (row for row in found["configurations"] if row["is_compared"])
    assert (row["place"], row["searched"], row["n"]) == (None, baseline | {"losses.alpha": 0.1}, 2), "alpha acts in it"
    compared = found["answer"]["baseline"]
    assert (compared["value"], compared["is_best"]) == (row["value"], False)
    assert compared["difference"] == pytest.approx(found["answer"]["best"]["value"] - row["value"])
    assert found["answer"]["runner_up"]["is_compared"] is False


def test_the_published_point_outside_of_the_space_is_compared_or_it_is_said_that_there_is_none(tmp_path):
    own = spec(2, 1, alpha=0.1).model_dump(mode="json")
    folder = write(tmp_path, {0.3: [90.0, 91.0], 0.5: [91.0, 93.0]}, own)
    answer = sweep_summary(folder)["answer"]
    assert (answer["own_point"], answer["no_own_point"]) == (None, "it is no configuration of this sweep")
    for seed, value in enumerate((80.0, 82.0)):
        where = {"searched": {"losses.alpha": 0.1}, "sweep_id": folder.name, "trial_id": "published"}
        with RunWriter.create(folder, spec(2, 1, seed, alpha=0.1), provenance=PROVENANCE, **where) as run:
            run.record_epoch(1, [EpochRow("mean", "validation", "top1", value)])
            run.finish("finished")
    found = sweep_summary(folder)
    assert (found["answer"]["own_point"]["difference"], found["answer"]["no_own_point"]) == (11.0, None)
    assert [row["place"] for row in found["configurations"]] == [1, 2, None]
    assert found["sweep"]["configurations"] == 2


def test_a_configuration_has_ended_once_all_seeds_of_its_trial_have(tmp_path):
    """Further seeds, which are trained after all trials, do not begin it anew."""
    folder = write(tmp_path, {0.1: [90.0, 91.0], 0.3: [91.0, 90.0], 0.5: [92.0, 93.0]}, state="running")
    for trial, alpha, seed in (("1", 0.3, 2), ("3", 0.7, 0)):
        where = {"searched": {"losses.alpha": alpha}, "sweep_id": folder.name, "trial_id": trial}
        RunWriter.create(folder, spec(2, 1, seed, alpha=alpha), provenance=PROVENANCE, **where).close()
    sweep = sweep_summary(folder)["sweep"]
    assert (sweep["trials_ended"], sweep["configurations"], sweep["runs"]) == (3, 4, {"finished": 6, "running": 2})


def test_importances_are_those_that_the_report_recorded(tmp_path):
    folder = write(tmp_path, {0.1: [90.0], 0.3: [91.0]})
    assert "did not record" in sweep_summary(folder)["importances"]["reason"]
    write_report(folder, {"losses.alpha": 1.0})
    assert sweep_summary(folder)["importances"] == {"values": {"losses.alpha": 1.0}, "reason": None}
    SweepWriter.resume(folder, SweepSpec(trials=3), trials_planned=3).close()  # it goes on: they are out of date
    assert sweep_summary(folder)["importances"]["values"] == {}


def test_points_of_figures_lie_within_their_axes_and_on_their_fronts(tmp_path):
    searched = [{"losses.alpha": alpha, "cohort.size": size} for alpha in (0.1, 1.0) for size in (2, 4)]
    found = sweep_summary(write_sweep(tmp_path, searched, epochs=3))
    limits = [one["limits"] for one in found["parameters"]]
    assert [one["label"] for one in found["parameters"]] == ["cohort size", "alpha"]
    for row in found["configurations"]:
        assert all(low <= at <= high for at, (low, high) in zip(row["positions"], limits, strict=True))
        assert [epoch for epoch, _ in row["curve"]] == [1, 2, 3]
        assert row["curve"][-1][1] == row["value"]
    assert [cost["name"] for cost in found["costs"]] == ["parameters", "multiply_adds"]
    best = found["configurations"][0]
    assert best["front"] == ["parameters", "multiply_adds"]
    for row in found["configurations"]:
        beaten = any(o["costs"]["parameters"] <= row["costs"]["parameters"] and o["score"] > row["score"]
                     for o in found["configurations"])  # fmt: skip
        assert ("parameters" in row["front"]) is not beaten
