"""What figures and tables of very large sweeps show, and that they say so."""

import pytest

from mcl_ray.analysis.ranking import Ranked
from mcl_ray.analysis.sweep_ranking import rank_sweep
from mcl_ray.reports import sample
from mcl_ray.reports.build import write_report
from mcl_ray.reports.overview import overview
from mcl_ray.reports.sample import MAX_SHOWN, drawn, drawn_note, listed, listed_note
from mcl_ray.reports.trials import best_so_far, trials_of
from tests.support.rendered import text_of
from tests.support.synthetic import write_sweep


def ranked(place, trial_id=None):
    row = {"run_ids": (f"run-{place}",), "searched": {}, "state": "finished", "reason": None, "std": None, "n": 1}
    row |= {"best_peer_best_epoch": None, "epochs_done": 1, "wall_time_s": 1.0, "value": -place, "score": -place}
    return Ranked(place=place, trial_id=trial_id or f"{place:04d}", **row)


def test_up_to_a_number_of_configurations_all_are_shown():
    rows = [ranked(place) for place in range(MAX_SHOWN)]
    assert (drawn(rows), drawn_note(len(rows))) == (rows, "")
    assert (listed(rows), listed_note(len(rows))) == (rows, "")


def test_of_more_the_best_evenly_spaced_ones_and_those_that_belong_to_it_are_drawn():
    rows = [ranked(place) for place in range(3 * MAX_SHOWN)]
    found = [row.place for row in drawn(rows, [rows[1], rows[-1]])]
    assert found == sorted({*range(0, len(rows), 3), 1, len(rows) - 1})
    assert drawn_note(len(rows)) == "Of 3,000 configurations, one in 3 is drawn, evenly over the ranking."


def test_of_more_the_first_ones_and_the_baseline_are_listed():
    rows = [*(ranked(place) for place in range(MAX_SHOWN + 5)), ranked(2, "baseline"), ranked(9999)]
    assert listed(rows) == [*rows[:MAX_SHOWN], rows[-2]]
    assert listed_note(len(rows)) == "The first 1,000 of 1,007 configurations are listed."


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A sweep of more configurations than are shown."""
    monkeypatch.setattr(sample, "MAX_SHOWN", 4)
    return write_sweep(tmp_path, [{"losses.alpha": number / 20} for number in range(16)], epochs=2)


def test_a_report_says_what_it_does_not_show(folder):
    found = rank_sweep(folder)
    page = write_report(folder, {"losses.alpha": 0.7}, found)[-1].read_text()
    scored = sum(row.score is not None for row in found.rows)
    assert page.count(drawn_note(scored)) == 4, "curves, history, parallel coordinates and figures by parameter"
    assert page.count("The first 4 of 16 configurations are listed.") == 1
    assert [page.count(f'<tr id="{row.run_ids[0]}"') for row in found.rows] == [1] * 4 + [0] * 12
    assert "of 16 planned" in page, "the facts are those of all"
    assert "The first 4 of 16 configurations are listed." in " ".join(text_of(overview(folder, found)).split())


def test_the_line_of_the_best_so_far_is_that_of_all_trials(folder, monkeypatch):
    found = rank_sweep(folder)
    few = trials_of(found)
    monkeypatch.undo()
    every = trials_of(found)
    assert len(few) < len(every)
    assert best_so_far(few, found.mode) == best_so_far(every, found.mode)
    assert few[-1].number == every[-1].number
