import io
import json

import pytest
from results_synthetic import spec, write_run
from rich.console import Console

from mcl_ray.errors import SpecError, StoreError
from mcl_ray.results.published import CIFAR100, published_figure
from mcl_ray.results.series import short_names
from mcl_ray.results.store import EpochRow, RunWriter, read_epochs, read_runs
from mcl_ray.results.tables import Ranked, ranking, summary
from mcl_ray.results.text import duration, ranking_table, summary_table
from mcl_ray.spec import BatchSpec, CohortSpec, DataSpec, LossSpec, RunSpec

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
        (1, 0.2, 60.0, 1),
        (2, 0.1, 52.0, 2),
        (None, 0.3, None, 0),
        (None, 0.4, None, 0),
        (None, 0.5, None, 0),
    ]
    assert rows[1].std == pytest.approx(8**0.5)
    assert rows[1].best_peer_best_epoch == pytest.approx((91 + 55) / 2)
    assert [row.state for row in rows] == ["stopped", "finished", "failed", "finished", "interrupted"]
    assert rows[2].reason == "MemoryError: [bold]full[/bold]"
    assert "nan at epoch 1" in rows[3].reason
    assert "without a figure for validation/top1/mean" in rows[4].reason
    assert ranking(runs, epochs, OBJECTIVE, "min")[0].value == 52.0
    told = shown(ranking_table(rows, OBJECTIVE, "max"))
    assert "alpha" in told
    assert "60.00" in told
    assert "[bold]full[/bold]" in told


def test_the_same_seed_twice_is_one_experiment(tmp_path):
    write_values(tmp_path, spec(), [1.0])
    write_values(tmp_path, spec(), [2.0])
    (row,) = ranking(read_runs(tmp_path), read_epochs(tmp_path), OBJECTIVE, "max")
    assert (row.value, row.n) == (2.0, 1)


def test_a_mode_or_objective_that_is_none_is_refused(tmp_path):
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
    told = shown(summary_table(found))
    assert "+3.00 percentage points" in told
    assert "schedule.epochs=3 (published: 300)" in told
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


def test_what_was_not_published_has_no_figure():
    assert figure(data=DataSpec(checksum="off")) is None
    assert figure(data=DataSpec(source="digits")) is None
    assert figure(cohort=CohortSpec(size=3)) is None
    assert figure(losses=LossSpec(beta=0)) is None
    assert figure(cohort=CohortSpec(networks=("resnet32", "resnet56"))) is None
    assert figure(cohort=CohortSpec(size=4, networks="hcgnet_a2")) is None
    assert figure(cohort=CohortSpec(size=4), losses=NO_LOSS.model_copy(update={"logit_distillation": "all"})) is None


def test_a_departure_is_told():
    found = figure(cohort=CohortSpec(size=4, sharing="none"), losses=LossSpec(alpha=0.3))
    assert found.deviations == ("losses.alpha=0.3 (published: 0.1)", "cohort.sharing=none (published: reference)")
    assert len(CIFAR100) == 8


def test_short_names_stay_unlike():
    names = short_names(["losses.alpha", "cohort.size", "batch.size", "a.same", "b.same"])
    assert json.dumps(list(names.values())) == '["alpha", "cohort size", "batch size", "a same", "b same"]'


def test_durations():
    assert [duration(seconds) for seconds in (1.23, 200, 3720)] == ["1.2 s", "3 min 20 s", "1 h 02 min"]


def test_a_ranking_of_five_parameters_fits_a_terminal(tmp_path):
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
            n=3,
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
    assert all(
        line.split() == [str(n), "0.123", "0.5", "1e-05", "2", "16", "98.77", "0.12", "3", "300", "interrupted"]
        for n, line in enumerate(lines, 1)
    )
