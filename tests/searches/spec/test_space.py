import json

import pytest
import yaml

from mcl_ray.config.overrides import parse, replace
from mcl_ray.errors import SpecError
from searches.spec import search_registry
from searches.spec.difference import difference, only_extends
from searches.spec.fields import without_effect
from searches.spec.space import Choice, FloatRange, IntRange, active, contains, grid
from searches.spec.stored_spec import parse_stored
from searches.spec.sweep import SweepSpec

DEPENDENT = (
    "space.networks={kind: choice, values: [[resnet8], [resnet20], [resnet8, resnet20, resnet8]]}",
    "space.cohort.size={kind: int, low: 1, high: 4, when: {networks: [[resnet8], resnet20]}}",
    "space.sharing={kind: choice, values: [reference, stem], when: {cohort.size: [3, 4]}}",
)
"""Sharing depends on the size, which depends on the networks."""


def changed(*overrides, search="digits"):
    return replace(search_registry.load(search), parse(SweepSpec, overrides))


def of(kind, **fields):
    return {"float": FloatRange, "int": IntRange, "choice": Choice}[kind](kind=kind, **fields)


@pytest.mark.parametrize("name", search_registry.SEARCHES)
def test_a_trial_never_reads_the_test_split(name):
    sweep = search_registry.load(name)
    trial = sweep.trial_run({"losses.alpha": 0.7})
    assert trial.evaluation.test == "never"
    assert trial.data.validation_fraction > 0
    assert trial.losses.alpha == 0.7
    assert sweep.best_run({"losses.alpha": 0.7}).evaluation.test == "at_end"
    assert changed("run.evaluation.test=every_epoch", search=name).run.evaluation.test == "never"


def test_a_search_survives_its_file(tmp_path):
    sweep = changed(
        *DEPENDENT, "trials=3", "epochs=2", "repeats=3", "space.tau={kind: float, low: 0.05, high: 1, log: true}",
        "start=[{alpha: 0.5}]", "sampler.kind=gp", "warm_start=[digits-0123456789-1]", "keep_checkpoints=null",
    )  # fmt: skip
    file = tmp_path / "search.yaml"
    file.write_text(yaml.safe_dump(sweep.model_dump(mode="json"), sort_keys=False))
    again = search_registry.load(str(file))
    assert again == sweep
    assert list(again.space) == list(sweep.space)


def test_entries_of_the_space_are_replaced_added_and_removed():
    assert changed("space.alpha={kind: choice, values: [0, 1]}").space["losses.alpha"].values == (0, 1)
    assert "losses.tau" in changed("space.tau={kind: float, low: 0.05, high: 1}").space
    assert "losses.alpha" not in changed("space.alpha=null").space


@pytest.mark.parametrize(
    ("dimension", "values"),
    [
        ("sharing={kind: choice, values: [none, stem, reference]}", ["none", "reference"]),
        ("tau={kind: float, low: 0.05, high: 1, log: true}", [0.05, 0.5]),
        ("lr={kind: float, low: 0.01, high: 0.1, step: 0.01}", [0.03]),
        ("cohort.size={kind: int, low: 1, high: 9, log: true}", [1, 9]),
        ("cohort.size={kind: int, low: 2, high: 8, step: 2}", [2, 8]),
        ("networks={kind: choice, values: [resnet8, resnet20]}", ["resnet8", ["resnet20"]]),
    ],
)
def test_other_fields_than_weights_are_searched(dimension, values):
    sweep = changed(f"space={{{dimension.replace('={', ': {', 1)}}}")
    ((path, found),) = sweep.space.items()
    part, field = path.split(".")
    for value in values:
        assert value in found
        reached = getattr(getattr(sweep.trial_run({path: found.match(value)}), part), field)
        assert reached == ((value,) if value == "resnet8" else tuple(value) if isinstance(value, list) else value)


def test_a_list_of_several_networks_sets_the_number_of_peers():
    sweep = changed(*DEPENDENT)
    assert sweep.trial_run({"cohort.networks": ("resnet8", "resnet20", "resnet8")}).cohort.size == 3
    assert sweep.trial_run({"cohort.networks": ("resnet20",)}).cohort.size == 2
    with pytest.raises(SpecError, match=r"3 names .* for cohort\.size=4"):
        sweep.trial_run({"cohort.networks": ["resnet8", "resnet20", "resnet8"], "cohort.size": 4})
    with pytest.raises(SpecError, match="cohort.sharing='stem' requires the same network for every peer"):
        sweep.trial_run({"cohort.networks": ("resnet8", "resnet20", "resnet8"), "cohort.sharing": "stem"})
    with pytest.raises(SpecError, match="but got peer3 and sizes from 1"):
        changed(*DEPENDENT, "objective=validation/top1/peer3")


def test_fields_are_active_where_their_conditions_hold():
    space = changed(*DEPENDENT, *(f"space.{weight}=null" for weight in ("alpha", "beta", "gamma", "lam"))).space
    networks, size, sharing = "cohort.networks", "cohort.size", "cohort.sharing"
    assert list(space) == [networks, size, sharing], "parents come first, wherever they were written"
    unlike = ("resnet8", "resnet20", "resnet8")
    assert active(space, {networks: unlike, size: 4, sharing: "stem"}) == (networks,), "nor are their dependants"
    assert active(space, {networks: ["resnet8"], size: 2}) == (networks, size)
    assert active(space, {networks: "resnet8", size: 3}) == (networks, size, sharing)
    assert contains(space, {networks: ("resnet8",), size: 3, sharing: "stem"})
    assert not contains(space, {networks: ("resnet8",), size: 3}), "an active field is missing"
    assert not contains(space, {networks: ("resnet8",), size: 2, sharing: "stem"}), "an inactive field is present"
    assert not contains(space, {networks: ("resnet8",), size: 9})
    assert contains(space, {networks: list(unlike)})


ONE_PEER = "space.cohort.size={kind: int, low: 1, high: 3}"
TAU = "space.tau={kind: float, low: 0.05, high: 1}"


def test_a_field_is_active_only_where_it_has_an_effect():
    space = changed(ONE_PEER, TAU).space
    size, alpha, beta, gamma, lam, tau = (
        "cohort.size",
        *(f"losses.{w}" for w in ("alpha", "beta", "gamma", "lam", "tau")),
    )
    assert list(space) == [alpha, size, beta, gamma, lam, tau], "after those that decide about them"
    assert active(space, {alpha: 0.5, size: 1}) == (alpha, size, tau)
    assert active(space, {alpha: 0.0, size: 1}) == (alpha, size)
    assert active(space, {alpha: 0.0, size: 2, beta: 0, gamma: 0, lam: 0}) == (alpha, size, beta, gamma, lam)
    assert active(space, {alpha: 0.0, size: 2, beta: 0, gamma: 0, lam: 0.1}) == (alpha, size, beta, gamma, lam, tau)
    assert contains(space, {alpha: 0.0, size: 1})
    assert not contains(space, {alpha: 0.0, size: 1, beta: 0.3})
    assert "may_lack_effect" not in str(changed(ONE_PEER).model_dump()), "it is derived, not stored"


def test_a_field_that_always_acts_keeps_its_place():
    space = changed(TAU, "space.alpha={kind: float, low: 0.1, high: 1}").space
    assert list(space) == ["losses.beta", "losses.gamma", "losses.lam", "cohort.size", "losses.tau", "losses.alpha"]
    assert not any(dimension.may_lack_effect for dimension in space.values())


def test_a_setting_that_is_searched_decides_about_others():
    sampler = "batch.sampler: {kind: choice, values: [shuffled, balanced]}"
    space = changed(f"space={{batch.per_class: {{kind: choice, values: [2, 4]}}, {sampler}}}").space
    assert active(space, {"batch.sampler": "shuffled"}) == ("batch.sampler",)
    assert active(space, {"batch.sampler": "balanced"}) == ("batch.sampler", "batch.per_class")


def test_a_field_without_effect_anywhere_is_never_active():
    alone = changed("space.cohort.size=null", "run.cohort.size=1")
    assert without_effect(alone.space) == ["losses.beta", "losses.gamma", "losses.lam"]
    assert alone.start_points == [{"losses.alpha": 0.1}]
    assert without_effect(changed(ONE_PEER, TAU).space) == []


def test_points_of_a_grid_that_differ_without_effect_are_one():
    space = "space={beta: {kind: choice, values: [0, 1]}, cohort.size: {kind: choice, values: [1, 2]}}"
    sweep = changed(space, "sampler.kind=grid", "trials=null")
    points = [{"cohort.size": 1}, {"cohort.size": 2, "losses.beta": 0}, {"cohort.size": 2, "losses.beta": 1}]
    assert (sweep.trials, grid(sweep.space)) == (3, points)
    stored = sweep.model_dump(mode="json") | {"trials": 4}
    assert parse_stored(json.dumps(stored)).trials == 3, "an earlier version counted both one-peer points"


def test_an_earlier_sweep_that_searched_its_seed_is_read():
    stored = changed().model_dump(mode="json")
    stored["space"]["seed"] = {"kind": "int", "low": 0, "high": 9, "log": False, "step": 1, "when": {}}
    assert "seed" in parse_stored(json.dumps(stored)).space


def test_a_start_point_leaves_out_what_has_no_effect():
    sweep = changed(ONE_PEER, "start=[{cohort.size: 1, beta: 0.7}]")
    assert sweep.start_points[1] == {"losses.alpha": 0.1, "cohort.size": 1}
    own, other = (sweep.trial_run({"cohort.size": 1, "losses.beta": beta}) for beta in (0.1, 0.7))
    assert own.digest == other.digest


def test_a_baseline_is_one_more_configuration():
    alone = ("repeats=2", "trials=5", "confirm.configurations=0")
    sweep = changed(*alone)
    assert sweep.baseline == {"cohort.size": 1, "losses.alpha": 0.0}
    assert [run.cohort.size for run in sweep.trial_runs(sweep.baseline)] == [1, 1]
    assert min(sweep.space["cohort.size"].ends()) == 2, "which is not in the space"
    assert (sweep.num_runs, changed(*alone, "baseline={}").num_runs) == (12, 10)
    assert changed("baseline={networks: resnet20}").baseline == {"cohort.networks": "resnet20"}
    for given, reason in (
        ("{cohort.size: 0}", "greater than or equal to 1"), ("{epochs: 3}", "all trials must have the same"),
        ("{sise: 1}", "unknown field 'sise'"), ("{alpha: 0, losses.alpha: 1}", "losses.alpha is there twice"),
    ):  # fmt: skip
        with pytest.raises(SpecError, match=f"baseline.*{reason}"):
            changed(f"baseline={given}")


def test_a_value_may_be_valid_under_its_condition_only():
    choice = "space.nesterov={kind: choice, values: [true, false]}"
    momentum = "space.momentum={kind: float, low: 0, high: 0.9%s}"
    with pytest.raises(SpecError, match=r"optimizer\.nesterov=true requires optimizer\.momentum > 0"):
        changed(choice, momentum % "")
    assert changed(choice, momentum % ", when: {nesterov: [false]}").start_points[0]["optimizer.nesterov"] is True
    multistep = "space.schedule.kind={kind: choice, values: [cosine, multistep]}"
    milestones = "space.milestones={kind: choice, values: [[4, 8], [6]], when: {schedule.kind: [multistep]}}"
    sweep = changed(multistep, milestones)
    assert sweep.trial_run({"schedule.kind": "multistep", "schedule.milestones": [6]}).schedule.milestones == (6,)


def test_a_grid_has_every_point_once_and_starts_with_the_given():
    space = {
        "a": of("float", low=0.1, high=0.4, step=0.1),
        "b": of("int", low=1, high=5, step=2),
        "c": of("choice", values=("x",)),
    }
    points = grid(space)
    assert [point["a"] for point in points[::3]] == [0.1, 0.2, 0.3, 0.4], "as written, not 0.30000000000000004"
    assert [point["b"] for point in points[:3]] == [1, 3, 5]
    assert len(points) == 12
    assert all(contains(space, point) for point in points)

    rates = "{lr: {kind: float, low: 0.01, high: 0.09, step: 0.02}, cohort.size: {kind: choice, values: [3, 2]}}"
    sweep = changed(f"space={rates}", "sampler.kind=grid", "trials=null", "start=[{lr: 0.07, cohort.size: 3}]")
    assert sweep.trials == 10
    assert sweep.first_points[:2] == [
        {"optimizer.lr": 0.05, "cohort.size": 2}, {"optimizer.lr": 0.07, "cohort.size": 3},
    ]  # fmt: skip
    assert sorted(map(str, sweep.first_points)) == sorted(map(str, grid(sweep.space)))


def test_start_points_are_the_runs_own_then_those_given():
    assert changed("space.networks={kind: choice, values: [resnet8, resnet20]}").start_points[0]["cohort.networks"] == (
        "resnet8"
    )
    assert changed("space.alpha={kind: float, low: 0.5, high: 1}").start_points == []
    own, given = changed(*DEPENDENT, "start=[{alpha: 0.5, networks: resnet20, cohort.size: 3}, {}]").start_points
    assert (own["cohort.networks"], own["cohort.size"]) == (("resnet8",), 2)
    assert "cohort.sharing" not in own
    assert (given["losses.alpha"], given["losses.beta"], given["cohort.networks"]) == (0.5, 0.1, ("resnet20",))


def test_repeats_are_runs_that_differ_in_their_seed():
    sweep = changed("repeats=3", "run.seed=5", "trials=4", "baseline={}")
    assert (sweep.seeds, sweep.num_runs) == ((5, 6, 7), 12)
    runs = sweep.trial_runs({"losses.alpha": 0.7})
    assert [run.seed for run in runs] == [5, 6, 7]
    assert {replace(run, {"seed": 0}).digest for run in runs} == {
        replace(sweep.trial_run({"losses.alpha": 0.7}), {"seed": 0}).digest
    }


def test_costs_are_minimised_beside_the_objective():
    sweep = changed("costs=[parameters, training_time_s]", "scheduler.kind=none")
    assert sweep == changed("costs=[parameters, wall_time_s]", "scheduler.kind=none"), "as earlier sweeps have it"
    assert sweep.objectives == ("validation/top1/mean", "parameters", "training_time_s")
    assert sweep.directions == ("maximize", "minimize", "minimize")


def test_a_changed_search_says_what_changed_and_whether_it_only_extends():
    old = changed("trials=3", "time_limit_s=60")
    more = changed("trials=4", "time_limit_s=null")
    assert only_extends(old, more)
    assert only_extends(old, old)
    assert not only_extends(more, old)
    assert not only_extends(old, changed("trials=3", "time_limit_s=59"))
    assert only_extends(old, changed("trials=3", "time_limit_s=60", "keep_checkpoints=9"))
    assert only_extends(old, changed("trials=3", "time_limit_s=60", "keep_checkpoints=null"))
    assert not only_extends(old, changed("trials=3", "time_limit_s=60", "keep_checkpoints=4"))
    assert not only_extends(changed("keep_checkpoints=null"), changed("keep_checkpoints=9"))
    other = changed("trials=4", "time_limit_s=60", "grace_epochs=5", "space.alpha=null")
    assert not only_extends(old, other)
    assert [line.partition(":")[0] for line in difference(old, other)] == [
        "trials", "scheduler.grace_epochs", "space.losses.alpha",
    ]  # fmt: skip
    assert "scheduler.grace_epochs: 9 -> 5" in difference(old, other)
    assert difference(old, other)[2].endswith("-> -")


GRID = ("sampler.kind=grid", "trials=null")
WIDE = "space={alpha: {kind: float, low: 0, high: 1, step: 0.01}, embedding_dim: {kind: int, low: 1, high: 100}}"
SIZES = "space={cohort.size: {kind: int, low: 1, high: 4}}"


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        (("trials=0",), "trials must be greater than or equal to 1, but got 0"),
        (("space.alpha={kind: float, low: 2, high: 1}",), "low < high, but got low=2.0, high=1.0"),
        (("space.alpha={kind: float, low: 0, high: 1, log: true}",), "needs low > 0, but got low=0.0"),
        (("space.alpha={kind: float, low: 0.1, high: 1, log: true, step: 0.1}",), "logarithmic range has no steps"),
        (("space.alpha={kind: float, low: 0, high: 1, step: 0.3}",), "end on a step, but got low=0.0, high=1.0"),
        (("space.alpha={kind: float, low: 0, high: 1, step: 1.0e-300}",), "at most 10,000 steps"),
        (("space.alpha={kind: choice, values: [0, 0.0]}",), "a choice has every value once, but 0.0 is there twice"),
        (
            ("space.alpha={kind: float, low: -1, high: 1}",),
            "losses.alpha must be greater than or equal to 0, but got -1",
        ),
        (("space.lambda={kind: float, low: 0, high: 1}",), "unknown field 'lambda'; did you mean 'lam'?"),
        (("space={}",), "must name one field or more"),
        (
            ("space={alpha: {kind: float, low: 0, high: 1}, losses.alpha: {kind: float, low: 0, high: 1}}",),
            "is there twice",
        ),
        (("space={cohort.size: {kind: int, low: 1, high: 17}}",), "less than or equal to 16, but got 17"),
        (("space.networks={kind: choice, values: [resnet8, resnt8]}",), "unknown network 'resnt8'"),
        (("objective=test/top1/mean",), "validation"),
        (("validation_fraction=0",), "validation_fraction > 0 must hold, but got 0"),
        (("run.alpha=-1",), "unknown field 'run.alpha'"),
        (("space.fraction={kind: choice, values: [0.1, 0.2]}",), "unknown field 'fraction'"),
        (
            ("space.validation_fraction={kind: choice, values: [0.1, 0.2]}",),
            "data.validation_fraction cannot be searched",
        ),
        (("space.evaluation.test={kind: choice, values: [never, at_end]}",), "evaluation.test cannot be searched"),
        (("space.epochs={kind: int, low: 5, high: 9}",), "schedule.epochs cannot be searched"),
        (("objective=validation/top1/peer1",), "but got peer1 and 1 peers in the baseline; baseline={} takes it out"),
        (
            (
                "run.cohort.size=3",
                "space={networks: {kind: choice, values: [resnet8, [resnet8, resnet20]]}}",
                "objective=validation/top1/peer2",
            ),
            "but got peer2 and sizes from 2",
        ),
        (("version=2",), "version must be less than or equal to 1, but got 2"),
        (
            ("space.tau={kind: choice, values: [0.1, 1], when: {sharing: [stem]}}",),
            "losses.tau can only depend on fields of the space, but cohort.sharing is not in it",
        ),
        (
            ("space.tau={kind: choice, values: [0.1, 1], when: {sharin: [stem]}}",),
            "condition of losses.tau: unknown field 'sharin'; did you mean 'sharing'?",
        ),
        (
            ("space.tau={kind: choice, values: [0.1, 1], when: {alpha: [0.1]}}",),
            "on a choice or a range of whole numbers, but losses.alpha is float",
        ),
        (
            ("space.tau={kind: choice, values: [0.1, 1], when: {cohort.size: [2, 5]}}",),
            "can only depend on values that cohort.size may have, but 5 is none",
        ),
        (
            (
                "space.tau={kind: choice, values: [0.1, 1], when: {lr: [0.1]}}",
                "space.lr={kind: choice, values: [0.1, 1], when: {tau: [1]}}",
            ),
            "must not be circular, but these depend on each other: losses.tau, optimizer.lr",
        ),
        (
            (
                "space.sharing={kind: choice, values: [none, stem], when: {cohort.size: [2]}}",
                "space.tau={kind: choice, values: [0.1, 1], when: {sharing: [stem], cohort.size: [3]}}",
            ),
            "losses.tau: no point meets its conditions",
        ),
        (GRID, "search space, losses.alpha: a grid has every value of a range once, so that real numbers need a step"),
        ((*GRID, "space={cohort.size: {kind: int, low: 1, high: 4, log: true}}"), "log=true has no effect"),
        ((*GRID, SIZES, *DEPENDENT), "a grid has every field at every point, but cohort.size, cohort.sharing"),
        (("sampler.kind=grid", SIZES), "a grid tries each of its points once: trials=4 or null must hold, but got 12"),
        ((*GRID, WIDE), "a grid has at most 10,000 points, but this one has 10,100"),
        (("sampler.kind=random", "startup_trials=3"), "startup_trials goes with kind=tpe or gp and only with it"),
        (("population=8",), "population goes with kind=nsga2 and only with it"),
        (("brackets=4",), "brackets goes with kind=hyperband and only with it, but got kind=asha, brackets=4"),
        (("k=2",), "k goes with kind=mean_minus_std and only with it, but got kind=mean, k=2.0"),
        (("costs=[parameters]",), "costs need scheduler.kind=none, but got asha"),
        (("costs=[parameters, parameters]", "scheduler.kind=none"), "named once, but got parameters, parameters"),
        (("costs=[watts]", "scheduler.kind=none"), "'multiply_adds' or 'training_time_s', but got 'watts'"),
        (
            ("sampler.kind=random", "warm_start=[digits-0123456789-1]"),
            "learns from trials it did not propose (tpe, gp), but got random",
        ),
        (("warm_start=[../digits-0123456789-1]",), "should match pattern"),
        (("space.seed={kind: int, low: 0, high: 9}",), "good for any seed, so that seed cannot be searched; repeats=N"),
        (("repeats=2", "run.seed=4294967295"), "run.seed + repeats <= 2**32 must hold"),
        (("start=[{tau: 0.2}]",), "fields of the space, but losses.tau is not in it"),
        (("start=[{taw: 0.2}]",), "start point: unknown field 'taw'"),
        (("start=[{alpha: 7}]",), "a start point lies in the space, but losses.alpha cannot be 7"),
        (
            ("start=[{beta: 0.3}]", "space.alpha={kind: float, low: 0.5, high: 1}"),
            "must give losses.alpha: the run's own 0.1 is not in the space",
        ),
        ((*DEPENDENT, "start=[{sharing: stem}]"), "but the conditions of cohort.sharing do not hold at it"),
        (("trials=2", "start=[{alpha: 0.5}, {alpha: 0.6}]"), "but got 3 points (the run's own among"),
        (("study=study.db",), "study string should match pattern"),
        (("space.temperature={kind: float, low: 100000, high: 100001, step: 0.0001}",), "steps must be distinct"),
        (("space.lr={kind: float, low: -1.7e308, high: 1.7e308}",), "high - low must be a finite number"),
        (
            ("space.embedding_dim={kind: int, low: 2, high: 200002, step: 2}", "sampler.kind=gp"),
            "gp lists every value of a field",
        ),
    ],
)  # fmt: skip
def test_bad_searches_state_rule_and_values(overrides, rule):
    with pytest.raises(SpecError) as error:
        changed(*overrides)
    assert rule in str(error.value)


def test_a_field_cannot_be_searched_and_fixed():
    with pytest.raises(SpecError, match=r"losses\.alpha is searched; space\.losses\.alpha=null takes it out"):
        search_registry.digits().with_overrides(["alpha=0.5"])
    fixed = search_registry.digits().with_overrides(["alpha=0.5", "space.alpha=null"])
    assert fixed.run.losses.alpha == 0.5
