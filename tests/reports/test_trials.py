"""What a report shows of all trials of a sweep, and the page in a real browser."""

import io
import random

import pytest
from rich.console import Console

from mcl_ray.analysis.roles import BASELINE
from mcl_ray.analysis.sweep_ranking import rank_sweep
from mcl_ray.config.overrides import replace
from mcl_ray.reports import interactive, interactive_trials, plots
from mcl_ray.reports.build import write_report
from mcl_ray.reports.overview import overview
from mcl_ray.reports.runs import runs_table
from mcl_ray.reports.trials import best_so_far, trials_of
from mcl_ray.results.store import EpochRow, RunWriter, SweepWriter
from tests.support.browser import chromium, new_context
from tests.support.known_trials import sweep
from tests.support.synthetic import PROVENANCE

SPACE = {
    "losses.alpha": {"kind": "float", "low": 0.001, "high": 1.0, "log": True},
    "losses.beta": {"kind": "float", "low": 0.001, "high": 1.0},
}
STOPPED, FAILED = (2, 5), 7
EPOCHS, RUNG = 8, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A sweep of nine trials close to 100 %, two of them stopped at the first rung, one failed, and a baseline."""
    fields = {"space": SPACE, "trials": 9, "run.schedule.epochs": EPOCHS, "scheduler.grace_epochs": RUNG}
    asked, chance = replace(sweep(), fields), random.Random(0)
    points = [{"losses.alpha": 10 ** -(3 - number / 4), "losses.beta": 0.001 + number / 9} for number in range(9)]
    root = tmp_path_factory.mktemp("results")
    with SweepWriter.create(
        root, "close", asked, objective=asked.objective, mode="max", trials_planned=9, provenance=PROVENANCE
    ) as writer:
        for number, point in [*enumerate(points), (BASELINE, dict(asked.baseline))]:
            trial = number if number == BASELINE else f"{number:04d}"
            state = "stopped" if number in STOPPED else "failed" if number == FAILED else "finished"
            run_id = f"{writer.sweep_id}-{trial}-r0"
            where = {"searched": point, "sweep_id": writer.sweep_id, "trial_id": trial, "provenance": PROVENANCE}
            with RunWriter.begin(writer.folder, run_id, asked.trial_run(point), **where) as run:
                for epoch in range(1, (EPOCHS if state == "finished" else RUNG) + 1):
                    top1 = min(100.0, 100.6 - 40 / epoch**2 + chance.gauss(0, 0.2))
                    run.record_epoch(epoch, [EpochRow("mean", "validation", "top1", top1)])
                run.finish(state, RuntimeError("out of memory, as the batch was large") if state == "failed" else None)
        writer.finish("finished")
    return writer.folder


def test_the_trials_are_those_with_a_score_by_their_number(folder):
    ranked = rank_sweep(folder)
    trials = trials_of(ranked)
    assert [trial.number for trial in trials] == [0, 1, 2, 3, 4, 5, 6, 8]
    assert [trial.number for trial in trials if not trial.has_finished] == list(STOPPED)
    assert [len(trial.curve) for trial in trials] == [RUNG if trial.number in STOPPED else EPOCHS for trial in trials]
    line = best_so_far(trials, "max")
    assert not {number for number, _ in line} & set(STOPPED), "a figure of an earlier epoch is no best so far"
    assert [score for _, score in line] == sorted({score for _, score in line})
    assert [score for _, score in best_so_far(trials, "min")] == sorted(
        (score for _, score in best_so_far(trials, "min")), reverse=True
    )
    assert ranked.rungs == [RUNG], "the next one would be 9 of 8 epochs"


def test_what_was_stopped_early_stands_on_no_axis_without_its_epoch(folder):
    ranked = rank_sweep(folder)
    drawn = (ranked.rows, ranked.objective, ranked.mode, ranked.scoring.score)
    axes = interactive.parallel_coordinates(*drawn).data[0].dimensions
    assert [axis.label for axis in axes][-2] == "epoch of the figure"
    assert sorted(set(axes[-2]["values"])) == [RUNG, EPOCHS]
    for figure in interactive.accuracy_by_parameter(*drawn):
        shown = [text for text in figure.data[0].text if text]
        assert shown == [str(RUNG)] * len(STOPPED)
    history = (trials_of(ranked), None, ranked.goal, ranked.mode, ranked.scoring.score)
    texts = [text for trace in interactive_trials.history(*history).data for text in trace.text or ()]
    assert texts == [str(RUNG)] * len(STOPPED)
    for panel in (plots.history(*history).axes[0], plots.accuracy_by_parameter(*drawn).axes[0]):
        assert [text.get_text() for text in panel.texts] == [str(RUNG)] * len(STOPPED)


def test_axes_of_percentages_end_at_100(folder):
    ranked = rank_sweep(folder)
    drawn = (ranked.rows, ranked.objective, ranked.mode, ranked.scoring.score)
    trials = trials_of(ranked)
    curves, history = (trials, ranked.rungs, ranked.goal), (trials, None, ranked.goal, "max", ranked.scoring.score)
    pages = [
        *interactive.accuracy_by_parameter(*drawn),
        interactive.learning_curves(ranked.best_epochs, ranked.best.run_ids),
        interactive_trials.trial_curves(*curves),
        interactive_trials.history(*history),
    ]
    assert [page.layout.yaxis.range[1] for page in pages] == [100.0] * len(pages)
    pictures = [
        plots.accuracy_by_parameter(*drawn),
        plots.learning_curves(ranked.best_epochs, ranked.best.run_ids),
        plots.trial_curves(*curves),
        plots.history(*history),
    ]
    assert [picture.axes[0].get_ylim()[1] for picture in pictures] == [100.0] * len(pictures)
    assert interactive.importance_bars({"losses.alpha": 0.9}, "x").layout.xaxis.range == (0, 100)
    assert plots.importance_bars({"losses.alpha": 0.9}, "x").axes[0].get_xlim() == (0, 100)


def test_a_field_has_the_scale_that_it_was_searched_on(folder):
    ranked = rank_sweep(folder)
    assert ranked.log_fields == {"losses.alpha": True, "losses.beta": False}
    drawn = (ranked.rows, ranked.objective, ranked.mode, ranked.scoring.score, ranked.log_fields)
    titles = [figure.layout.xaxis.title.text for figure in interactive.accuracy_by_parameter(*drawn)]
    assert titles == ["alpha (log scale)", "beta"]
    assert [panel.get_xlabel() for panel in plots.accuracy_by_parameter(*drawn).axes[:2]] == titles
    assert interactive.accuracy_by_parameter(*drawn[:-1])[1].layout.xaxis.title.text == "beta (log scale)", "by values"


def test_the_ranking_and_the_list_of_runs_are_whole_in_80_columns(folder):
    console = Console(width=80, record=True, file=io.StringIO())
    for part in overview(folder):
        console.print(part)
    console.print(runs_table(folder))
    text = console.export_text()
    assert "…" not in text
    assert ": finished, 9 of 9 trials" in text
    assert "failed (1)" in text
    assert "(1) RuntimeError: out of memory, as the batch was large" in text
    for run in (path.name for path in (folder / "runs").iterdir()):
        assert f"{run} " in text
    finished = [line.split() for line in text.splitlines() if line.startswith("close-") and " finished " in line]
    assert {words[4] for words in finished} == {"valid."}
    assert all(99 < float(words[3]) <= 100 for words in finished)


PLACES = ".figure:not(.drawn-wide)"
NONE_COVERS_THE_NEXT = """(places) => [...document.querySelectorAll(places)].every((one) =>
    one.querySelector('.main-svg').getBoundingClientRect().right <= one.getBoundingClientRect().right + 1)"""
"""Whether every figure has the width of its place, which plotly gives it some time after the page is laid out."""


def measured(page):
    return page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")


@pytest.mark.slow
def test_the_page_in_a_browser(folder):
    (page_file,) = (path for path in write_report(folder, {"losses.alpha": 0.7}) if path.suffix == ".html")
    faults = []
    with chromium() as browser:
        for width, scheme in ((1400, "light"), (390, "dark")):
            page = new_context(browser, width=width, height=900, scheme=scheme).new_page()
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.goto(page_file.as_uri())
            page.wait_for_function("document.querySelectorAll('.main-svg').length > 10")
            wide, window = measured(page)
            assert wide <= window, f"{wide} pixels wide in a window of {width}"
            assert page.locator(PLACES).count() == 6
            page.wait_for_function(NONE_COVERS_THE_NEXT, arg=PLACES)
            back = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (back == "rgb(255, 255, 255)") == (scheme == "light")
        ranking = page.locator("section", has_text="Ranking").first.locator("table")
        places = ranking.locator("tbody td:first-child")
        assert places.all_text_contents()[:3] == ["1", "2", "3"]
        ranking.get_by_role("button", name="place").click()
        ranking.get_by_role("button", name="place").click()
        assert places.all_text_contents() == ["baseline", *"87654321", "–"], "what has no value is last"
        links = ranking.locator("tbody a")
        targets = links.evaluate_all("links => links.map((link) => link.hash)")
        assert len(targets) == 10
        assert all(page.locator(f"tr[id='{target[1:]}']").count() == 1 for target in targets)
        paths = page.locator("tr[id] a").evaluate_all("links => links.map((link) => link.getAttribute('href'))")
        assert all((page_file.parent / path).is_dir() for path in paths)
    assert faults == []
