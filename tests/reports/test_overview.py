"""The overview for a terminal: which sweeps and runs of a folder it shows."""

import pytest

from mcl_ray.analysis.sweep_ranking import rank_sweep
from mcl_ray.errors import StoreError
from mcl_ray.reports.improvement import improvement_line
from mcl_ray.reports.overview import overview
from tests.support.rendered import text_of
from tests.support.synthetic import spec, write_run, write_sweep

GOAL = "validation/top1/mean"


def test_a_results_folder_shows_each_sweep_and_each_run_outside_of_sweeps(tmp_path):
    sweep = write_sweep(tmp_path, [{"losses.alpha": 0.1}, {"losses.alpha": 0.2}], epochs=2)
    run_id = write_run(tmp_path, spec(epochs=1))
    text = text_of(overview(tmp_path))
    assert f"{sweep.name}: finished, 2 of 2 trials" in text
    assert text.count("wall time: ") == text.count(f"{run_id}: finished, 1 of 1 epochs") == 1
    assert text_of(overview(sweep)) in text
    assert text_of(overview(tmp_path / "runs" / run_id)) in text


def test_a_sweep_with_costs_shows_its_front(tmp_path):
    trials = [{"losses.alpha": 0.1, "cohort.size": size} for size in (2, 3)]
    text = text_of(overview(write_sweep(tmp_path, trials, epochs=2, costs=("parameters",))))
    assert "Pareto front of score (up), params (down): " in text


def test_a_sweep_shows_its_best_configuration_against_the_published_point(tmp_path):
    own = spec(2, 6, alpha=0.1).model_dump(mode="json")
    trials = [{"losses.alpha": 0.1}, {"losses.alpha": 0.12}]
    folder = write_sweep(tmp_path, trials, seeds=(0, 1, 2), run=own)
    lines = text_of(overview(folder)).splitlines()
    assert "published point" in " ".join(lines[1:4])
    assert "(n=3)" in " ".join(lines[1:4])
    assert " ".join(lines).replace("  ", " ").find(improvement_line(rank_sweep(folder).improvement, GOAL)[:40]) > 0


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(StoreError, match="holds none of them"):
        overview(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(StoreError, match="a report needs a run or a sweep, but .* holds none yet"):
        overview(tmp_path)
