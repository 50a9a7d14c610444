"""The ranking of a whole sweep, read from its folder."""

import pytest

from mcl_ray.analysis.ranking import ranking
from mcl_ray.analysis.sweep_ranking import rank_sweep
from mcl_ray.errors import StoreError
from mcl_ray.results.store import read_epochs, read_runs
from tests.support.synthetic import write_sweep


def test_a_sweep_is_ranked_by_the_score_and_repeats_of_its_spec(tmp_path):
    trials = [{"losses.alpha": alpha} for alpha in (0.1, 1.0, 10.0)]
    score = {"kind": "mean_minus_std", "k": 2.0}
    folder = write_sweep(tmp_path, trials, seeds=(0, 1), epochs=2, score=score, costs=("parameters",))
    ranked = rank_sweep(folder)
    scoring = ranked.scoring
    assert (scoring.score.kind, scoring.score.k, scoring.repeats, scoring.costs) == (
        "mean_minus_std",
        2.0,
        2,
        ("parameters",),
    )
    rows = ranking(read_runs(folder), read_epochs(folder), "validation/top1/mean", "max", scoring.score, 2)
    assert list(ranked.rows) == rows
    assert ranked.best == rows[0]
    assert (ranked.sweep["sweep_id"], ranked.goal.key, ranked.mode) == (folder.name, "validation/top1/mean", "max")


def test_a_sweep_without_a_score_has_no_best_configuration(tmp_path):
    ranked = rank_sweep(write_sweep(tmp_path, [{"losses.alpha": 0.1}], epochs=0))
    assert (len(ranked.rows), ranked.best) == (1, None)


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(StoreError, match="a ranking needs the folder of a sweep, but"):
        rank_sweep(tmp_path)
