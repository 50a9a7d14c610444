import pytest

from benchmarks.growth import Generated, exponents, measure
from mcl_ray.analysis.sweep_ranking import rank_sweep


@pytest.mark.slow
def test_generated_trials_are_read_as_those_of_a_search_that_can_be_resumed(tmp_path):
    generated = Generated(tmp_path, 12, "nsga2")
    generated.run()
    ranked = rank_sweep(generated.folder)
    assert sorted(row.trial_id for row in ranked.rows) == [f"{number:04d}" for number in range(12)]
    assert {(row.state, row.n, row.epochs_done) for row in ranked.rows} == {("finished", 1, 3)}
    generated.report()
    assert (generated.folder / "report" / "report.html").exists()
    figures = measure(tmp_path / "other", 12, "random", ["driver", "resume"])
    assert set(figures) == {"driver_ms", "proposal_ms", "resume_s", "peak_mib"}
    filled = measure(tmp_path / "filled", 12, "random", ["listing", "resume"], fill=True)
    assert set(filled) == {"first_listing_s", "listing_s", "runs_list_s", "resume_s", "peak_mib"}


def test_exponents_are_those_of_powers_of_the_number_of_trials():
    assert exponents({"a": 2.0, "b": 3.0}, {"a": 2.0, "b": 300.0}, 10) == {"a": 0.0, "b": 2.0}
