"""The estimate of a search: each resource is that of the largest trial."""

import io
import re

import pytest
from rich.console import Console

from mcl_ray.cli.sweep_estimate import print_estimate
from mcl_ray.config.environment import Environment
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.config.overrides import parse, replace
from mcl_ray.training import timing
from mcl_ray.training.estimate import estimate_run
from searches.estimate import estimate_largest, estimate_sweep
from searches.spec import search_registry
from searches.spec.sweep import SweepSpec

ENVIRONMENT = Environment()


def search(**space):
    """`digits`, of which only these fields are searched."""
    overrides = [f"space={{{', '.join(f'{path}: {dimension}' for path, dimension in space.items())}}}"]
    return replace(search_registry.digits(), parse(SweepSpec, ["negatives=500", *overrides]))


def choice(*values, when="{}"):
    return f"{{kind: choice, values: [{', '.join(map(str, values))}], when: {when}}}"


def planned(sweep, *points):
    """The largest of each figure over these points, one by one."""
    plans = [estimate_run(sweep.trial_run(point), ENVIRONMENT) for point in points]
    memory = max(plan.state_bytes + plan.activation_bytes for plan in plans)
    names = ("steps", "steps_per_epoch", "parameters", "multiply_adds", "disk_bytes")
    return {"memory": memory} | {name: max(getattr(plan, name) for plan in plans) for name in names}


def estimated(sweep):
    _, plan = estimate_largest(sweep, ENVIRONMENT)
    names = ("steps", "steps_per_epoch", "parameters", "multiply_adds", "disk_bytes")
    return {"memory": plan.state_bytes + plan.activation_bytes} | {name: getattr(plan, name) for name in names}


def test_a_few_large_networks_may_take_more_than_many_small_ones():
    sweep = search(networks=choice("[resnet110]", "[resnet8, resnet8, resnet8]"))
    found = estimated(sweep)
    assert found == planned(sweep, {"cohort.networks": "resnet110"})
    assert found["memory"] > 10 * planned(sweep, {"cohort.networks": ["resnet8"] * 3})["memory"]


def test_peers_that_share_a_stem_may_take_less_than_fewer_that_do_not(tmp_path):
    asked = {"space": {"cohort.size": {"kind": "int", "low": 1, "high": 3}}}
    sweep, nowhere = replace(search_registry.cifar(), asked), Environment(data=tmp_path / "nowhere")
    two, three = (estimate_run(sweep.trial_run({"cohort.size": size}), nowhere) for size in (2, 3))
    largest, plan = estimate_largest(sweep, nowhere)
    assert largest.cohort.size == 2
    assert plan.activation_bytes == two.activation_bytes > three.activation_bytes + three.state_bytes
    assert plan.parameters == three.parameters > two.parameters


@pytest.mark.parametrize(
    ("space", "points"),
    [
        (
            {"batch.size": choice(20, 40)},
            [{"batch.size": 20}, {"batch.size": 40}],
        ),
        ({"embedding_dim": "{kind: int, low: 8, high: 512, log: true}"}, [{"cohort.embedding_dim": 512}]),
        (
            {"method": choice("supervised", "supervised_bank")},
            [{"method": "supervised"}, {"method": "supervised_bank"}],
        ),
        (
            {
                "cohort.size": "{kind: int, low: 1, high: 4}",
                "embedding_dim": choice(16, 1024, when="{cohort.size: [1]}"),
            },
            [{"cohort.size": 4}, {"cohort.size": 1, "cohort.embedding_dim": 1024}],
        ),
        (
            {"lr": choice(0.05, 0.1), "batch.size": choice(8, 20, when="{lr: [0.1]}")},
            [{}, {"optimizer.lr": 0.1, "batch.size": 8}],
        ),
    ],
)
def test_whatever_changes_a_figure_counts(space, points):
    sweep = search(**space)
    assert estimated(sweep) == planned(sweep, *points)


def test_values_that_are_not_valid_together_are_not_counted():
    """20 images are not 40 of each class, and of ten classes 2 images each are not 400."""
    sweep = search(**{"batch.size": choice(20, 400), "per_class": choice(2, 40)})
    points = [{"batch.size": 20, "batch.per_class": 2}, {"batch.size": 400, "batch.per_class": 40}]
    assert estimated(sweep) == planned(sweep, *points)


def test_the_published_point_is_estimated_where_the_space_does_not_hold_it():
    sweep = replace(search(networks=choice("[resnet8]")), {"run.cohort.networks": "resnet56", "baseline": {}})
    assert sweep.compared == {"published": {"cohort.networks": ["resnet56"]}}
    assert estimated(sweep) == planned(sweep, {"cohort.networks": "resnet56"})
    assert estimated(replace(sweep, {"confirm.configurations": 0})) == planned(sweep, {"cohort.networks": "resnet8"})


@pytest.mark.parametrize(("pack", "states", "activations"), [("off", 2, 1), ("4", 8, 8), ("auto", 2, 1)])
def test_the_printed_memory_is_of_all_trials_of_a_pack(pack, states, activations):
    sweep = replace(search(alpha="{kind: float, low: 0, high: 1}"), {"repeats": 2, "baseline": {}})
    execution = ExecutionOptions(pack=pack)
    console = Console(width=300, record=True, file=io.StringIO(), markup=False)
    print_estimate(estimate_sweep(sweep, execution), execution, console)
    (memory,) = (line for line in console.export_text().splitlines() if line.startswith("# memory"))
    run = estimate_run(sweep.run, ENVIRONMENT)
    assert f"about {(states * run.state_bytes + activations * run.activation_bytes) / 1e6:,.0f} MB a worker" in memory
    assert ("more if trials share their steps" in memory) == (pack == "auto")


def test_the_printed_estimate_is_of_all_seeds_and_of_checkpoints_that_are_kept():
    networks = {"networks": choice("[resnet20]", "[resnet8, resnet8, resnet8]"), "batch.size": choice(20, 40)}
    sweep = replace(search(**networks), {"baseline": {}, "repeats": 3, "trials": 4, "keep_checkpoints": 2})
    console = Console(width=300, record=True, file=io.StringIO(), markup=False)
    print_estimate(estimate_sweep(sweep, ExecutionOptions()), ExecutionOptions(), console)
    facts = dict(line[2:].split("  ", 1) for line in console.export_text().splitlines() if line.startswith("# "))
    plans = [
        estimate_run(sweep.trial_run({"cohort.networks": "resnet20", "batch.size": size}), ENVIRONMENT)
        for size in (20, 40)
    ]
    few, many = plans
    memory = 3 * many.state_bytes + many.activation_bytes
    assert facts["memory"].strip().startswith(f"about {memory / 1e6:,.0f} MB a worker")
    assert facts["steps in all"].split()[-1] == f"{few.steps * (4 + 1) * 3:,}", "and those of the published point"
    assert re.search(r"[\d,.]+ MB", facts["disk"]).group() == f"{2 * 3 * few.disk_bytes / 1e6:,.1f} MB"
    assert facts["largest run"].strip().startswith("2 peers (resnet20), batches of 40, up to ")


def test_where_all_checkpoints_are_kept_so_are_those_of_the_baseline_and_of_further_seeds():
    kept = replace(search_registry.digits(), {"keep_checkpoints": None, "trials": 1})
    estimate = estimate_sweep(kept, ExecutionOptions())
    assert kept.num_runs == 1 + 2 + 3, "the published point, its further seeds, and the baseline's"
    assert estimate.disk_bytes == 6 * estimate.run.disk_bytes


def test_the_wall_time_is_of_all_runs_by_the_workers_that_this_machine_has_room_for(monkeypatch):
    sweep = replace(search_registry.digits(), {"trials": 6})
    estimate = estimate_sweep(sweep, ExecutionOptions())
    images = sweep.num_runs * estimate.run.train_images * sweep.run.schedule.epochs
    monkeypatch.setattr(timing, "multiply_adds_per_second", lambda *_: 3 * images * estimate.run.multiply_adds / 400)
    monkeypatch.setattr(timing, "runs_at_once", lambda *_: 4)
    console = Console(width=300, record=True, file=io.StringIO(), markup=False)
    print_estimate(estimate, ExecutionOptions(), console)
    assert re.search(r"# wall time +at most about 1 min 40 s on this machine, 4 workers at once", console.export_text())
