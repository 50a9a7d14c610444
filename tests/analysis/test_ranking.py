import io
import json
import random
import re

import pytest
from rich.console import Console

from mcl_ray.analysis.published import published_figure
from mcl_ray.analysis.ranking import Ranked, best_of, pareto_front, ranking, summary
from mcl_ray.config.scoring import RULE, Score, Scoring
from mcl_ray.config.spec import BatchSpec, CohortSpec, DataSpec, LossSpec, OptimizerSpec, RunSpec
from mcl_ray.errors import SpecError, StoreError
from mcl_ray.reports.axes import scored
from mcl_ray.reports.labels import duration, short_names
from mcl_ray.reports.terminal import front_table, ranking_cells, ranking_table, summary_table
from mcl_ray.results.store import EpochRow, RunWriter, read_epochs, read_runs
from tests.support.synthetic import spec, write_run

OBJECTIVE = "validation/top1/mean"


def shown(renderable):
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(renderable)
    return console.export_text()


def write_values(root, run_spec, values, state="finished", error=None, **where):
    with RunWriter.create(root, run_spec, **where) as writer:
        for epoch, level in enumerate(values, start=1):
            rows = [EpochRow("mean", "validation", "top1", level), EpochRow("best", "test", "top1", level + 1)]
            writer.record_epoch(epoch, rows)
        writer.finish(state, error)
    return writer.run_id


def test_a_ranking_counts_the_last_epoch_over_seeds_and_puts_failures_last(tmp_path):
    for seed, values in ((0, [90.0, 50.0]), (1, [10.0, 54.0])):
        write_values(tmp_path, spec(seed=seed, alpha=0.1), values, searched={"losses.alpha": 0.1})
    write_values(tmp_path, spec(alpha=0.2), [60.0], state="stopped", searched={"losses.alpha": 0.2})
    error = MemoryError("[bold]full[/bold]")
    write_values(tmp_path, spec(alpha=0.3), [99.0], "failed", error, searched={"losses.alpha": 0.3})
    write_values(tmp_path, spec(alpha=0.4), [float("nan")], searched={"losses.alpha": 0.4})
    write_values(tmp_path, spec(alpha=0.5), [], "interrupted", searched={"losses.alpha": 0.5})
    runs, epochs = read_runs(tmp_path), read_epochs(tmp_path)
    rows = ranking(runs, epochs, OBJECTIVE, "max")
    assert [(row.place, row.searched["losses.alpha"], row.value, row.n) for row in rows] == [
        (1, 0.1, 52.0, 2),
        (2, 0.2, 60.0, 1),
        (None, 0.3, None, 0),
        (None, 0.4, None, 0),
        (None, 0.5, None, 0),
    ]
    assert rows[0].std == pytest.approx(8**0.5)
    assert rows[0].best_peer_best_epoch == pytest.approx((91 + 55) / 2)
    assert [row.state for row in rows] == ["finished", "stopped", "failed", "finished", "interrupted"]
    assert rows[2].reason == "MemoryError: [bold]full[/bold]"
    assert "nan at epoch 1" in rows[3].reason
    assert "without a figure for validation/top1/mean" in rows[4].reason
    assert ranking(runs, epochs, OBJECTIVE, "min")[0].value == 52.0
    headers, cells = ranking_cells(rows, OBJECTIVE)
    values = [row[headers.index("Top-1 accuracy, validation, mean of peers (%), last epoch")] for row in cells]
    assert values[:2] == ["52.00", "60.00 (epoch 1)"]
    text = shown(ranking_table(rows, OBJECTIVE, "max"))
    assert "alpha" in text
    assert "60.00" in text
    assert "[bold]full[/bold]" in text


def test_the_same_seed_twice_is_one_experiment(tmp_path):
    write_values(tmp_path, spec(), [1.0])
    write_values(tmp_path, spec(), [2.0])
    (row,) = ranking(read_runs(tmp_path), read_epochs(tmp_path), OBJECTIVE, "max")
    assert (row.value, row.n) == (2.0, 1)


def write_trial(root, trial, figures, **searched):
    """One trial with a seed per figure; None is a seed that failed."""
    for seed, value in enumerate(figures):
        state, error = ("finished", None) if value is not None else ("failed", MemoryError("full"))
        where = {"sweep_id": "sweep", "trial_id": trial, "searched": searched}
        write_values(root, spec(seed=seed), [99.0, 99.0 if value is None else value], state, error, **where)


def ranked(root, score=Score(), repeats=1, mode="max"):  # noqa: B008
    return ranking(read_runs(root), read_epochs(root), OBJECTIVE, mode, score, repeats)


def test_the_runs_of_a_trial_are_its_seeds_and_the_score_ranks_them(tmp_path):
    write_trial(tmp_path, "wide", [50.0, 60.0, 70.0], seed=7)
    write_trial(tmp_path, "narrow", [58.0, 59.0, 60.0], seed=7)
    rows = ranked(tmp_path, repeats=3)
    assert [(row.trial_id, row.value, row.std, row.n, row.score) for row in rows] == [
        ("wide", 60.0, 10.0, 3, 60.0),
        ("narrow", 59.0, 1.0, 3, 59.0),
    ]
    lower = ranked(tmp_path, Score("mean_minus_std", 0.5), 3)
    assert [(row.trial_id, row.value, row.score) for row in lower] == [("narrow", 59.0, 58.5), ("wide", 60.0, 55.0)]
    assert [row.trial_id for row in ranked(tmp_path, mode="min")] == ["narrow", "wide"]
    assert "mean - 0.5 std, %" not in " ".join(headers_of(rows, Scoring()))
    assert "mean - 0.5 std, %" in " ".join(headers_of(lower, Scoring(score=Score("mean_minus_std", 0.5))))


def headers_of(rows, scoring):
    widest, *_ = ranking_table(rows, OBJECTIVE, "max", scoring).layouts
    return [" ".join(str(column.header).split()) for column in widest.columns]


def test_failed_seeds_are_left_out_while_more_than_half_have_a_figure(tmp_path):
    write_trial(tmp_path, "two", [60.0, None, 62.0])
    write_trial(tmp_path, "one", [90.0, None, None])
    write_trial(tmp_path, "whole", [50.0, 50.0, 50.0])
    rows = ranked(tmp_path, repeats=3)
    assert [(row.trial_id, row.value, row.n, row.num_planned, row.reason) for row in rows] == [
        ("whole", 50.0, 3, 3, None),
        ("two", 61.0, 2, 3, "1 of 3 seeds without a figure: MemoryError: full"),
        ("one", None, 0, 3, "2 of 3 seeds without a figure: MemoryError: full"),
    ]
    assert (rows[1].state, len(rows[1].run_ids), rows[2].state, rows[2].score) == ("finished", 2, "failed", None)
    text = shown(ranking_table(rows, OBJECTIVE, "max"))
    assert "2/3" in text
    assert RULE in " ".join(text.split())
    assert "Seeds without a figure" not in shown(ranking_table(rows[:1], OBJECTIVE, "max"))
    more = {row.trial_id: row for row in ranked(tmp_path, repeats=6)}
    assert more["whole"].score is None
    assert more["whole"].reason == "3 of 6 seeds without a figure: not started"
    assert more["two"].reason == "4 of 6 seeds without a figure: MemoryError: full; not started"


def test_what_trained_to_the_end_comes_before_what_was_stopped(tmp_path):
    write_values(tmp_path, spec(alpha=0.1), [60.0], "stopped", searched={"losses.alpha": 0.1})
    write_values(tmp_path, spec(alpha=0.2), [60.0], "finished", searched={"losses.alpha": 0.2})
    write_values(tmp_path, spec(alpha=0.3), [61.0], "stopped", searched={"losses.alpha": 0.3})
    assert [row.searched["losses.alpha"] for row in ranked(tmp_path)] == [0.2, 0.3, 0.1]


def priced(score, *costs):
    row = {"run_ids": ("run",), "trial_id": None, "searched": {}, "state": "finished", "reason": None, "value": score}
    row |= {"std": None, "n": 1, "best_peer_best_epoch": None, "epochs_done": 1, "wall_time_s": 1.0, "place": 1}
    return Ranked(score=score, costs=dict(zip(("parameters", "training_time_s"), costs, strict=False)), **row)


@pytest.mark.parametrize(("mode", "sign"), [("max", 1), ("min", -1)])
def test_the_front_equals_that_of_a_double_loop(mode, sign):
    chance = random.Random(1)
    rows = [priced(*(float(chance.randrange(12)) for _ in range(3))) for _ in range(60)]
    expected = []
    for row in rows:
        own = (sign * row.score, -row.costs["parameters"], -row.costs["training_time_s"])
        dominated = False
        for other in rows:
            theirs = (sign * other.score, -other.costs["parameters"], -other.costs["training_time_s"])
            as_good = theirs[0] >= own[0] and theirs[1] >= own[1] and theirs[2] >= own[2]
            dominated = dominated or (as_good and theirs != own)
        expected += [] if dominated else [row]
    assert 1 < len(expected) < len(rows)
    front = pareto_front(rows, ("parameters", "training_time_s"), mode)
    assert [id(row) for row in front] == [id(row) for row in expected]


def test_a_configuration_without_a_score_or_a_cost_is_not_on_the_front():
    twins = [priced(50.0, 10.0), priced(50.0, 10.0)]
    assert pareto_front([priced(None, 1.0), priced(90.0), *twins], ("parameters",)) == twins


def test_costs_are_means_over_the_seeds_and_the_front_is_shown(tmp_path):
    for size, level in ((2, 60.0), (4, 70.0), (8, 65.0)):
        for seed in (0, 1):
            labels = {"sweep_id": "sweep", "trial_id": str(size), "searched": {"cohort.size": size}}
            write_run(tmp_path, spec(size, 1, seed), level=10 * level, **labels)
    rows, scoring = ranked(tmp_path, repeats=2), Scoring(repeats=2, costs=("parameters", "multiply_adds"))
    assert {row.trial_id: row.costs["parameters"] for row in rows} == {"2": 154e3, "4": 308e3, "8": 616e3}
    assert "training_time_s" not in rows[0].costs, "no epoch has a recorded time"
    text = shown(front_table(rows, OBJECTIVE, "max", scoring))
    assert "2 of 3 configurations" in text
    assert "cohort size=4" in text
    assert "cohort size=8" not in text
    headers, cells = ranking_cells(rows, OBJECTIVE, "max", scoring)
    marks = {row[headers.index("cohort size")]: row[headers.index("Pareto front")] for row in cells}
    assert marks == {"4": "*", "8": "", "2": "*"}
    assert [row[headers.index("params, k")] for row in cells] == ["308", "616", "154"]


def test_an_invalid_mode_or_objective_is_refused(tmp_path):
    write_run(tmp_path, spec(epochs=1))
    runs, epochs = read_runs(tmp_path), read_epochs(tmp_path)
    with pytest.raises(SpecError, match="mode must be max or min, but got 'most'"):
        ranking(runs, epochs, OBJECTIVE, "most")
    with pytest.raises(SpecError, match="split/metric/member"):
        ranking(runs, epochs, "top1", "max")


def test_a_summary_sets_the_published_figure_beside_the_best_epoch(tmp_path):
    write_values(tmp_path, spec(num_peers=2, epochs=3), [70.0, 74.96, 71.0])
    found = summary(read_runs(tmp_path), read_epochs(tmp_path))
    assert found.best_peer_best_epoch == (2, 75.96)
    assert found.difference == pytest.approx(3.0)
    assert [(score.member, score.split, score.top1) for score in found.scores] == [
        ("mean", "validation", 71.0),
        ("best", "test", 72.0),
    ]
    text = shown(summary_table(found))
    assert "+3.00 percentage points" in text
    assert "schedule.epochs=3 (published: 300)" in text
    write_run(tmp_path, spec(epochs=1))
    with pytest.raises(StoreError, match="2 match"):
        summary(read_runs(tmp_path), read_epochs(tmp_path))


PUBLISHED = RunSpec(batch=BatchSpec(sampler="reference"))
NO_LOSS = LossSpec(alpha=0, beta=0, gamma=0, lam=0)


def figure(**changes):
    return published_figure(PUBLISHED.model_copy(update=changes))


def test_a_reproduction_deviates_in_nothing():
    found = figure()
    assert (found.mean, found.std, found.deviations) == (72.96, 0.28, ())
    assert figure(losses=NO_LOSS).mean == 70.91
    assert figure(losses=NO_LOSS).deviations == ()
    four = CohortSpec(size=4, networks="wrn_16_2")
    assert figure(cohort=four).mean == 75.79
    assert figure(cohort=four, losses=LossSpec(logit_distillation="reference")).mean == 76.34


def test_a_setting_that_was_not_published_has_no_figure():
    assert figure(data=DataSpec(checksum="off")) is None
    assert figure(data=DataSpec(source="digits")) is None
    assert figure(cohort=CohortSpec(size=3)) is None
    assert figure(losses=LossSpec(beta=0)) is None
    assert figure(cohort=CohortSpec(networks=("resnet32", "resnet56"))) is None
    assert figure(cohort=CohortSpec(size=4, networks="hcgnet_a2")) is None
    assert figure(cohort=CohortSpec(size=4), losses=NO_LOSS.model_copy(update={"logit_distillation": "all"})) is None


def test_a_deviation_is_listed():
    found = figure(cohort=CohortSpec(size=4, sharing="none"), losses=LossSpec(alpha=0.3))
    assert found.deviations == ("losses.alpha=0.3 (published: 0.1)", "cohort.sharing=none (published: reference)")


def test_short_names_stay_distinct():
    names = short_names(["losses.alpha", "cohort.size", "batch.size", "a.same", "b.same"])
    assert json.dumps(list(names.values())) == '["alpha", "cohort size", "batch size", "a same", "b same"]'


def test_durations():
    assert [duration(seconds) for seconds in (1.23, 200, 3720)] == ["1.2 s", "3 min 20 s", "1 h 02 min"]


def test_a_ranking_of_five_parameters_fits_a_terminal():
    rows = [
        Ranked(
            place=place,
            run_ids=(f"digits-{place:010d}-1",),
            trial_id=None,
            searched={
                "losses.alpha": 0.123456,
                "losses.beta": 0.5,
                "losses.gamma": 1e-5,
                "losses.lam": 2.0,
                "cohort.size": 16,
            },
            state="interrupted",
            reason=None,
            value=98.7654,
            std=0.1234,
            score=98.642,
            n=3,
            num_planned=3,
            costs={"parameters": 464_154.0, "training_time_s": 4000.0},
            best_peer_best_epoch=None,
            epochs_done=300,
            wall_time_s=1.0,
        )
        for place in range(1, 25)
    ]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(ranking_table(rows, "validation/top1/mean", "max"))
    lines = [line for line in console.export_text().splitlines() if "interrupted" in line]
    assert len(lines) == 24
    own = ["0.123", "0.5", "1e-05", "2", "16"]
    assert all(
        line.split() == [str(n), *own, "98.77", "0.12", "3", "300", "interrupted"] for n, line in enumerate(lines, 1)
    )
    console = Console(width=100, record=True, file=io.StringIO())
    scoring = Scoring(score=Score("mean_minus_std"), costs=("parameters", "training_time_s"))
    console.print(ranking_table(rows, "validation/top1/mean", "max", scoring))
    lines = [line for line in console.export_text().splitlines() if "interrupted" in line]
    figures = ["98.64", "98.77", "0.12", "3", "464.2", "66.67", "300", "interrupted"]
    assert [line.split() for line in lines] == [[f"{n}*", *own, *figures] for n in range(1, 25)]


def test_a_searched_field_without_effect_is_shown_as_a_dash(tmp_path):
    for number, size in enumerate((1, 2)):
        searched = {"cohort.size": size, "losses.beta": 0.7}
        one = RunSpec(cohort=CohortSpec(size=size, networks=("resnet8",)), losses=LossSpec(beta=0.7))
        write_values(tmp_path, one, [50.0 + number], searched=searched, sweep_id="sweep", trial_id=f"000{number}")
    pair, alone = ranked(tmp_path)
    assert (pair.searched, alone.searched) == ({"cohort.size": 2, "losses.beta": 0.7}, {"cohort.size": 1})
    headers, cells = ranking_cells([pair, alone], OBJECTIVE)
    assert [row[headers.index("beta")] for row in cells] == ["0.7", "–"]


@pytest.mark.parametrize("num_fields", [4, 9])
def test_every_figure_of_a_ranking_is_whole_in_80_columns_however_many_fields_are_searched(num_fields, tmp_path):
    searched = {f"losses.extra.term{number}": 0.123 + number for number in range(num_fields)}
    write_trial(tmp_path, "0000", [98.76, 97.65, 96.54], **searched)
    write_trial(tmp_path, "0001", [98.76, None, 96.54], **searched)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(ranking_table(ranked(tmp_path, repeats=3), OBJECTIVE, "max"))
    text = console.export_text()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"97\.65 +1\.11 +3 ", text)
    assert re.search(r"97\.65 +1\.57 +2/3 ", text)
    for number, value in enumerate(searched.values()):
        assert text.count(f"{value:.3g}") == 2, number
    assert "1 of 3 seeds without a figure: MemoryError: full" in " ".join(text.split())


def test_the_baseline_has_its_own_values_of_the_searched_fields_that_act_in_it(tmp_path):
    alone = RunSpec(cohort=CohortSpec(size=1), losses=LossSpec(alpha=0.0), optimizer=OptimizerSpec(lr=0.3))
    given = {"cohort.size": 1, "losses.alpha": 0.0}
    varied = {"cohort.size": 2, "losses.alpha": 0.5, "losses.beta": 0.5, "optimizer.lr": 0.1, "losses.tau": 0.1}
    write_values(tmp_path, spec(), [60.0], searched=varied, sweep_id="sweep", trial_id="0000")
    write_values(tmp_path, alone, [50.0], searched=given, sweep_id="sweep", trial_id="baseline")
    assert ranked(tmp_path)[1].searched == {**given, "optimizer.lr": 0.3}


def test_the_baseline_is_shown_as_such_and_never_the_best(tmp_path):
    write_trial(tmp_path, "0000", [50.0], **{"cohort.size": 2})
    write_trial(tmp_path, "baseline", [90.0], **{"cohort.size": 1})
    write_trial(tmp_path, "0001", [None], **{"cohort.size": 3})
    rows = ranked(tmp_path)
    assert [(row.trial_id, row.place) for row in rows] == [("0000", 1), ("baseline", None), ("0001", None)]
    assert best_of(rows) is rows[0]
    assert best_of(rows[1:]) is None
    headers, cells = ranking_cells(rows, OBJECTIVE)
    assert [row[headers.index("place")] for row in cells] == ["1", "baseline", "–"]
    assert "baseline" in shown(ranking_table(rows, OBJECTIVE, "max"))
    assert scored(rows) == [rows[0]], "figures are of the space"
    assert pareto_front(rows, ()) == [rows[0]]
