"""The best configuration against the run's own values, on figures whose truth is known."""

import json

import pytest

from mcl_ray.analysis.certainty import paired_difference
from mcl_ray.analysis.improvement import improvement, is_own_point, own_values
from mcl_ray.analysis.ranking import ranking
from mcl_ray.reports.improvement import improvement_line
from mcl_ray.results.store import EpochRow, RunWriter, read_epochs, read_runs
from tests.support.synthetic import spec

OBJECTIVE = "validation/top1/mean"
OWN = spec(alpha=0.1)
STORED = json.dumps({"run": OWN.model_dump(mode="json")})


def write(root, trial, figures, alpha, states=None):
    for seed, value in enumerate(figures):
        run = OWN.model_copy(update={"seed": seed, "losses": OWN.losses.model_copy(update={"alpha": alpha})})
        labels = {"searched": {"losses.alpha": alpha}, "sweep_id": "sweep", "trial_id": trial}
        with RunWriter.begin(root, f"sweep-{trial}-r{seed}", run, **labels) as writer:
            writer.record_epoch(3, [EpochRow("mean", "validation", "top1", value)])
            writer.finish((states or {}).get(seed, "finished"))


def found(root):
    runs, epochs = read_runs(root), read_epochs(root)
    rows = ranking(runs, epochs, OBJECTIVE, "max")
    return rows, improvement(rows, runs, epochs, OBJECTIVE, "max", STORED)


def test_a_clear_winner_has_its_paired_difference_and_interval(tmp_path):
    write(tmp_path, "0000", [90.0, 91.0, 92.0], 0.1)
    write(tmp_path, "0001", [93.0, 94.5, 95.0], 0.7)
    _, one = found(tmp_path)
    assert (one.best.trial_id, one.own.trial_id, one.differences) == ("0001", "0000", (3.0, 3.5, 3.0))
    assert one.difference == pytest.approx(9.5 / 3)
    half = 4.303 * (1 / 12) ** 0.5 / 3**0.5
    assert one.interval == pytest.approx((9.5 / 3 - half, 9.5 / 3 + half))
    assert one.standard_error == pytest.approx(((1 + 13 / 12) / 3) ** 0.5)
    assert not one.is_tie
    assert improvement_line(one, OBJECTIVE) == (
        "better than the published point by more than one standard error (0.83): best 94.17 ± 1.04 % (n=3), the "
        "published point 91.00 ± 1.00 % (n=3); difference +3.17 points, 95 % confidence interval +2.45 to +3.88, "
        "3 paired seeds"
    )


def test_a_winner_within_one_standard_error_is_a_tie(tmp_path):
    write(tmp_path, "0000", [90.0, 91.0, 92.0], 0.1)
    write(tmp_path, "0001", [92.0, 90.5, 91.5], 0.7)
    _, one = found(tmp_path)
    assert one.is_tie
    assert improvement_line(one, OBJECTIVE).startswith(
        "a tie with the published point, within one standard error (0.73): "
    )


@pytest.mark.parametrize("level", [90.0, 90.1, 33.3, 0.7])
def test_exactly_one_standard_error_is_a_tie(tmp_path, level):
    write(tmp_path, "0000", [level, level + 2], 0.1)
    write(tmp_path, "0001", [level + 2, level + 2], 0.7)
    _, one = found(tmp_path)
    assert (one.is_tie, one.is_behind) == (True, False), "the variance of the mean is 2/2, the difference 1"


def test_the_published_point_may_be_the_best_and_one_seed_is_no_evidence(tmp_path):
    write(tmp_path, "0000", [90.0, 91.0], 0.1)
    write(tmp_path, "0001", [99.0], 0.7)
    rows, one = found(tmp_path)
    assert [row.trial_id for row in rows] == ["0000", "0001"], "what was confirmed comes first"
    assert one.is_own
    assert improvement_line(one, OBJECTIVE) == "the published point is the best configuration: 90.50 ± 0.71 % (n=2)"

    write(tmp_path / "single", "0000", [90.0], 0.1)
    write(tmp_path / "single", "0001", [99.0], 0.7)
    _, single = found(tmp_path / "single")
    assert single.is_tie
    assert "as one seed is no evidence: best 99.00 % (n=1)" in improvement_line(single, OBJECTIVE)


def test_a_configuration_that_ranks_first_for_a_failed_seed_of_the_published_point_is_not_called_a_tie(tmp_path):
    write(tmp_path, "0000", [95.0, 96.0, 97.0], 0.1, {2: "failed"})
    write(tmp_path, "0001", [90.0, 90.5, 91.0], 0.7)
    _, one = found(tmp_path)
    assert (one.best.trial_id, one.is_tie, one.is_behind) == ("0001", False, True)
    assert improvement_line(one, OBJECTIVE).startswith("behind the published point in the mean by more than one ")
    write(tmp_path / "near", "0000", [91.0, 90.0, 97.0], 0.1, {2: "failed"})
    write(tmp_path / "near", "0001", [90.0, 90.5, 90.6], 0.7)
    _, near = found(tmp_path / "near")
    assert (near.is_tie, near.is_behind) == (True, False)


def test_without_a_figure_of_the_published_point_the_reason_is_said(tmp_path):
    write(tmp_path, "0000", [99.0], 0.1, {0: "failed"})
    write(tmp_path, "0001", [91.0], 0.7)
    _, failed = found(tmp_path)
    assert improvement_line(failed, OBJECTIVE) == (
        "not compared with the published point: it has no figure: failed without a message"
    )
    write(tmp_path / "outside", "0001", [91.0], 0.7)
    _, outside = found(tmp_path / "outside")
    assert improvement_line(outside, OBJECTIVE) == (
        "not compared with the published point: it is no configuration of this sweep"
    )
    write(tmp_path / "all", "0001", [91.0], 0.7, {0: "failed"})
    assert found(tmp_path / "all")[1] is None, "there is no best configuration"


def test_the_published_point_outside_of_the_space_is_compared_and_has_no_place(tmp_path):
    write(tmp_path, "published", [99.0, 98.0], 0.1)
    write(tmp_path, "0001", [90.0, 91.0], 0.7)
    rows, one = found(tmp_path)
    assert [(row.trial_id, row.place) for row in rows] == [("0001", 1), ("published", None)]
    assert (one.best.trial_id, one.own.trial_id, one.difference) == ("0001", "published", -8.0)
    assert (one.is_own, one.is_behind) == (False, True)


def test_the_interval_of_many_pairs_is_that_of_the_page(tmp_path):
    write(tmp_path, "0000", [90.0] * 18, 0.1)
    write(tmp_path, "0001", [91.0, 93.0] * 9, 0.7)
    _, one = found(tmp_path)
    page = paired_difference(dict(enumerate([91.0, 93.0] * 9)), dict.fromkeys(range(18), 90.0))
    assert one.interval == (page.low, page.high)


@pytest.mark.parametrize(
    ("path", "own", "other"),
    [
        ("losses.extra.spread", 0.0, 0.5),  # the run names no such term: it has no weight
        ("cohort.networks", "resnet32", "resnet8"),  # one name is a list of it
        ("cohort.networks", ["resnet32"], ["resnet8"]),
    ],
)
def test_the_published_point_is_known_by_its_values(tmp_path, path, own, other):
    for trial, value in enumerate((own, other)):
        losses = OWN.losses.model_copy(update={"extra": {"spread": value} if "extra" in path else {}})
        run = OWN.model_copy(update={"losses": losses, "plugins": ("not_imported_here",)})
        labels = {"searched": {path: value}, "sweep_id": "sweep", "trial_id": f"{trial:04d}"}
        with RunWriter.begin(tmp_path, f"sweep-{trial:04d}-r0", run, **labels) as writer:
            writer.record_epoch(3, [EpochRow("mean", "validation", "top1", 90.0 + trial)])
            writer.finish("finished")
    rows, one = found(tmp_path)
    assert (one.best.trial_id, one.own.trial_id) == ("0001", "0000")
    assert [is_own_point(row, own_values(STORED)) for row in rows] == [False, True]


def test_a_further_seed_counts_once_it_has_ended(tmp_path):
    write(tmp_path, "0000", [90.0, 50.0, 92.0], 0.1, {1: "interrupted"})
    write(tmp_path, "0001", [89.0, 95.0], 0.7, {1: "stopped"})
    rows, _ = found(tmp_path)
    assert [(row.trial_id, row.value, row.n, row.num_planned, row.state) for row in rows] == [
        ("0000", 91.0, 2, 2, "finished"),
        ("0001", 89.0, 1, 1, "finished"),
    ]
