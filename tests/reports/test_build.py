import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread
from plotly.offline import get_plotlyjs

from mcl_ray.analysis import ranking
from mcl_ray.analysis.importance import Importances
from mcl_ray.analysis.roles import BASELINE
from mcl_ray.config.scoring import RULE, Scoring
from mcl_ray.reports import interactive, interactive_pareto, plots, style
from mcl_ray.reports.axes import parameter_axes
from mcl_ray.reports.build import write_report
from mcl_ray.reports.terminal import front_title
from mcl_ray.results.queries import Objective
from mcl_ray.results.store import EpochRow, RunWriter, SweepWriter, read_epochs, read_runs
from tests.support.synthetic import SweepSpec, spec, write_run, write_sweep

OBJECTIVE = "validation/top1/mean"
SHARES = {"losses.alpha": 0.7, "losses.beta": 0.3}


@pytest.fixture(scope="module")
def written(sweep_folder):
    return {path.name: path for path in write_report(sweep_folder, SHARES)}


def is_drawn(path):
    grey = imread(path)[..., :3].mean(axis=2)
    return min(grey.shape) > 200 and grey.min() < 0.3 and grey.max() == 1.0 and (grey < 0.9).mean() > 0.005


def test_a_sweep_with_failures_gets_its_figures_and_its_page(written):
    assert set(written) == {
        "learning_curves.png",
        "trial_curves.png",
        "history.png",
        "parallel_coordinates.png",
        "accuracy_by_parameter.png",
        "importances.png",
        "importances.json",
        "report.html",
    }
    assert all(is_drawn(path) for name, path in written.items() if name.endswith(".png"))


def test_the_page_shows_every_state_and_escapes_user_strings(written):
    page = written["report.html"].read_text()
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "out of memory &lt;b&gt;here&lt;/b&gt;" in page
    assert "10 finished, 3 stopped, 2 failed" in page
    assert "The search never looked at the test images." in page


def test_the_page_loads_nothing(written):
    page = written["report.html"].read_text()
    ours = page.replace(get_plotlyjs(), "")
    assert len(ours) < len(page) / 2
    assert not re.search(r"https?://", ours)
    assert not re.search(r"<(script|img|iframe|link)[^>]*\s(src|href)=", ours)
    assert '"showSendToCloud": false' in ours
    assert "default-src 'none'" in page


def test_the_best_spec_of_the_page_is_the_file_that_trains_it(tmp_path):
    folder = write_sweep(tmp_path, [{"losses.alpha": 0.1}])
    (folder / "best.yaml").write_text("# best: 70 % <n=3>\nseed: 0\n")
    *_, page = write_report(folder, SHARES)
    assert "# best: 70 % &lt;n=3&gt;\nseed: 0\n" in page.read_text()


def test_importances_may_be_a_function_that_returns_a_reason(sweep_folder):
    written = write_report(sweep_folder, lambda _: Importances(reason="too <few>"))
    assert "importances.png" not in {path.name for path in written}
    assert not (sweep_folder / "report" / "importances.png").exists()
    recorded = json.loads((sweep_folder / "report" / "importances.json").read_text())
    assert recorded == {"values": {}, "reason": "too <few>"}
    assert "too &lt;few&gt;" in written[-1].read_text()


def test_a_root_gets_a_report_for_every_run_and_sweep(tmp_path):
    write_sweep(tmp_path, [{"losses.alpha": 0.1}], epochs=2)
    write_run(tmp_path, spec(num_peers=16, epochs=1), splits=("validation", "test"))
    write_run(tmp_path, spec(num_peers=1, epochs=1), epochs=0, state="interrupted")
    written = [path.relative_to(tmp_path) for path in write_report(tmp_path)]
    assert [path.name for path in written].count("report.html") == 3
    assert {path.parts[0] for path in written[:-1]} == {"runs", "sweeps"}
    assert str(written[-1]) == "report/index.html"
    index = (tmp_path / written[-1]).read_text()
    links = re.findall(r'<td><a href="([^"]+)"', index)
    assert len(links) == 4, "the sweep, its run, and two others"
    assert all((tmp_path / "report" / link).exists() for link in links)


@pytest.mark.parametrize("trials", [[], [{"losses.alpha": 0.1}] * 2])
def test_a_sweep_without_a_single_value_still_has_a_page(tmp_path, trials):
    folder = write_sweep(tmp_path, trials, epochs=0)
    SweepWriter.resume(folder, SweepSpec(), trials_planned=len(trials)).finish("failed")
    assert [path.name for path in write_report(folder, SHARES)] == ["report.html"]


def test_a_sweep_with_seeds_and_costs_shows_its_front_and_its_rule(tmp_path):
    trials = [{"losses.alpha": 0.1, "cohort.size": size} for size in (2, 3, 4, 6)]
    fields = {"costs": ("parameters", "multiply_adds"), "score": {"kind": "mean_minus_std", "k": 1.0}}
    written = {
        path.name: path for path in write_report(write_sweep(tmp_path, trials, seeds=(0, 1, 2), epochs=2, **fields))
    }
    assert is_drawn(written["pareto.png"])
    page = written["report.html"].read_text()
    assert "Pareto front of score (up), params (down), mult-adds (down): " in page
    assert "Configurations rank by mean - std over seeds." in page
    assert RULE in page
    assert "lines: mean over n=3 seeds; bands: ± sample standard deviation" in page, (
        "a failed seed costs the first place"
    )
    assert "4 configurations of 4 planned, 3 seeds each" in page
    assert "rgba(0,0,0,0.25)" in page  # the band around the ensemble


def rows_of(*searched):
    row = {"run_ids": ("run",), "trial_id": None, "state": "finished", "reason": None, "std": None, "n": 1}
    row |= {"best_peer_best_epoch": None, "epochs_done": 1, "wall_time_s": 1.0}
    return [
        ranking.Ranked(place=place, searched=one, value=50.0 - place, score=50.0 - place, **row)
        for place, one in enumerate(searched, start=1)
    ]


def test_every_kind_of_parameter_has_a_position_on_its_axis():
    values = [0.0, 0.001, 1.0]
    rows = rows_of(
        *(
            {"a": value, "b": name, "c": 3, "d": flag}
            for value, name, flag in zip(values, "xyx", (True, None, False), strict=True)
        )
    )
    log, names, single, flags = parameter_axes(rows)
    assert (log.kind, names.kind, single.kind, flags.kind) == ("log", "category", "linear", "category")
    assert log.positions[1:] == (-3.0, 0.0)
    assert log.positions[0] < -3
    assert "0" in [label for _, label in log.ticks]
    assert names.positions == (0.0, 1.0, 0.0)
    assert single.limits == (2.5, 3.5)


def overlaps(figure):
    """Return the pairs of neighbouring tick labels that overlap."""
    figure.savefig("/dev/null", format="png")
    found = []
    for panel in figure.axes:
        for axis in (panel.xaxis, panel.yaxis):
            boxes = [
                label.get_window_extent()
                for label in axis.get_ticklabels()
                if label.get_text() and label.get_rotation() == 0
            ]
            found += [(one, other) for one, other in itertools.pairwise(boxes) if one.overlaps(other)]
    return found


@pytest.mark.parametrize("count", [1, 2, 100])
def test_labels_do_not_overlap(count):
    chance = np.random.default_rng(0)
    rows = rows_of(
        *(
            {
                "losses.alpha": float(10 ** chance.uniform(-4, 1)),
                "losses.a_name_that_is_long_for_an_axis": float(chance.uniform(0, 1)),
            }
            | {"cohort.networks": ["a network with a name that is long", "resnet32"][place % 2], "losses.tau": 0.1}
            for place in range(count)
        )
    )
    assert not overlaps(plots.accuracy_by_parameter(rows, OBJECTIVE))
    assert len(plots.parallel_coordinates(rows, OBJECTIVE, "max").axes[0].lines) > count


def test_curves_can_be_distinguished_without_colour(tmp_path):
    write_run(tmp_path, spec(num_peers=16, epochs=3))
    figure = plots.learning_curves(read_epochs(tmp_path), read_runs(tmp_path)["run_id"].to_pylist())
    lines = figure.axes[0].lines
    styles = {(line.get_linestyle(), line.get_marker(), line.get_linewidth()) for line in lines}
    assert len(styles) == len(lines) == 18
    luminance = [sum(style.palette(step / 10)[:3]) for step in range(11)]
    assert luminance == sorted(luminance)


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_ticks_of_epochs_are_integers(tmp_path, epochs):
    write_run(tmp_path, spec(num_peers=2, epochs=epochs))
    drawn = read_epochs(tmp_path), read_runs(tmp_path)["run_id"].to_pylist()
    panel = plots.learning_curves(*drawn).axes[-1]
    shown = [place for place in panel.get_xticks() if panel.get_xlim()[0] <= place <= panel.get_xlim()[1]]
    assert shown
    assert all(float(place).is_integer() for place in shown)
    assert interactive.learning_curves(*drawn).layout.xaxis.dtick == (1 if epochs < 30 else None)


def test_of_several_seeds_the_curve_is_the_mean_with_a_band_of_one_std(tmp_path):
    for seed, level in ((0, 10.0), (1, 20.0)):
        with RunWriter.create(tmp_path, spec(seed=seed)) as writer:
            for epoch in (1, 2) if seed else (1, 2, 3):
                writer.record_epoch(epoch, [EpochRow("mean", "validation", "top1", level * epoch)])
    figure = plots.learning_curves(read_epochs(tmp_path), read_runs(tmp_path)["run_id"].to_pylist())
    panel = figure.axes[0]
    assert panel.lines[0].get_xydata().tolist() == [[1, 15], [2, 30], [3, 30]]
    (band,) = panel.collections
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices.round(6).tolist()}
    assert corners == {(1, 15 - round(50**0.5, 6)), (1, 15 + round(50**0.5, 6))} | {
        (2, round(30 + sign * 200**0.5, 6)) for sign in (-1, 1)
    }
    assert "n=2 seeds" in figure.get_suptitle()


@pytest.mark.parametrize("mode", ["max", "min"])
def test_numbers_on_a_front_overlap_neither_each_other_nor_points(mode):
    chance, sign = np.random.default_rng(1), 1 if mode == "max" else -1
    rows = [
        replace(row, std=0.5, score=50 + sign * 2 * float(size), costs={"parameters": 1e6 * float(size)})
        for row, size in zip(rows_of(*[{}] * 14), np.sort(chance.uniform(1, 3, 14)), strict=True)
    ]
    figure = plots.pareto(rows, OBJECTIVE, mode, Scoring(costs=("parameters",)))
    (panel,) = figure.axes
    boxes = [text.get_window_extent() for text in panel.texts if text.get_text()]
    assert {text.get_text() for text in panel.texts} - {""} == {str(row.place) for row in rows}
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    points = panel.transData.transform([(row.costs["parameters"] / 1e6, row.score) for row in rows])
    assert not any(box.contains(*point) for box in boxes for point in points)
    line = panel.lines[0]
    assert line.get_drawstyle() == "steps-post"
    assert (np.diff(line.get_ydata()) * sign >= 0).all()


def test_the_baseline_is_no_configuration_that_a_front_beats():
    rows = [replace(row, costs={"parameters": 1e6 + place}) for place, row in enumerate(rows_of(*[{}] * 3))]
    baseline = replace(rows[0], trial_id=BASELINE, place=None, score=rows[-1].score, costs={"parameters": 9e6})
    scoring = Scoring(costs=("parameters",))
    (panel,) = plots.pareto([*rows, baseline], OBJECTIVE, "max", scoring).axes
    assert sum(len(points.get_offsets()) for points in panel.collections) == 3
    figure = interactive_pareto.pareto([*rows, baseline], OBJECTIVE, "max", scoring)
    assert sum(len(trace.x) for trace in figure.data if trace.name != "best at this cost or less") == 3
    assert front_title([*rows, baseline], rows[:1], "max", scoring.costs).endswith("1 of 3 configurations")


def test_what_did_not_train_to_the_end_stands_on_a_front_with_the_epoch_of_its_figure():
    rows = [replace(row, costs={"parameters": 1e6 + 1e5 * place}) for place, row in enumerate(rows_of(*[{}] * 3))]
    rows[1:] = [replace(row, state="interrupted", epochs_done=2, score=row.score - 9) for row in rows[1:]]
    scoring = Scoring(costs=("parameters",))
    (panel,) = plots.pareto(rows, OBJECTIVE, "max", scoring).axes
    assert [text.get_text() for text in panel.texts if "epoch" in text.get_text()] == ["(epoch 2)"] * 2
    figure = interactive_pareto.pareto(rows, OBJECTIVE, "max", scoring)
    assert sorted(text for trace in figure.data for text in trace.text or ()) == ["(epoch 2)", "(epoch 2)", "1"]


def test_a_figure_that_is_pointed_at_has_its_spread_and_number_of_seeds():
    (row,) = rows_of({})
    shown = interactive.hover_text(replace(row, score=98.5, std=0.254, n=3), Objective.parse(OBJECTIVE))
    assert shown.startswith("98.50 ± 0.25 % (n=3, finished)<br>")


def test_reports_import_neither_torch_nor_the_searches():
    code = "import mcl_ray.reports.build, sys; print({'torch', 'ray', 'optuna', 'fastapi'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "set()\n"
