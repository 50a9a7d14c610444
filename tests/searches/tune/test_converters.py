import math

import optuna
import pytest

from mcl_ray.config.overrides import parse, replace
from mcl_ray.errors import SpecError
from searches.preflight import check_proposals
from searches.spec import search_registry, suite_registry
from searches.spec.space import Choice, FloatRange, IntRange, contains
from searches.spec.sweep import SweepSpec
from searches.tune import converters
from searches.tune.converters import check_sampler, suggest, to_distributions, to_params, to_point, to_sampler

SPACE = {
    "network": Choice(kind="choice", values=(("a",), ("b",), ("a", "b"))),
    "rate": FloatRange(low=0.01, high=1, log=True),
    "size": IntRange(kind="int", low=1, high=4, when={"network": (("a",), ("b",))}),
    "share": Choice(kind="choice", values=(True, False), when={"size": (3, 4)}),
    "tau": FloatRange(low=0.1, high=0.7, step=0.2),
    "width": IntRange(kind="int", low=2, high=8, step=3),
}
POINTS = [
    {"network": ("a", "b"), "rate": 0.5, "tau": 0.3, "width": 8},
    {"network": ("b",), "rate": 1.0, "size": 2, "tau": 0.1, "width": 5},
    {"network": ("a",), "rate": 0.01, "size": 4, "share": False, "tau": 0.7, "width": 2},
]


@pytest.fixture(autouse=True)
def quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def sweep(*overrides):
    return replace(search_registry.load("digits"), parse(SweepSpec, overrides))


def searched(study, trials, costs=0):
    points = []
    for _ in range(trials):
        trial = study.ask()
        point = suggest(SPACE, trial)
        study.tell(trial, [-abs(math.log(point["rate"])), *[point["tau"]] * costs])
        assert to_point(SPACE, trial.params) == point
        points.append(point)
    return points


EXTREME = [
    FloatRange(low=100, high=100.1, step=1e-4),
    FloatRange(low=-1000, high=1000, step=0.25),
    FloatRange(low=1e-300, high=1e300, log=True),
    FloatRange(low=1.0, high=math.nextafter(1, 2)),
    FloatRange(low=0.1, high=0.9, step=0.1),
    IntRange(kind="int", low=0, high=2**16),
    IntRange(kind="int", low=1, high=2**16, log=True),
    Choice(kind="choice", values=(1, "1", 1.5, False, (2, 3))),
]


@pytest.mark.parametrize("kind", ["tpe", "gp", "nsga2", "qmc", "random"])
def test_every_sampler_serves_ranges_at_their_limits(kind):
    fields = ("losses.temperature", "seed")
    for dimension in EXTREME:
        spec = sweep(f"sampler.kind={kind}", "scheduler.kind=none").model_copy(update={"space": {fields[0]: dimension}})
        check_sampler(spec)


def test_a_sampler_that_cannot_serve_a_space_is_told_before_a_sweep(monkeypatch):
    def fails(*_, **__):
        raise MemoryError("cannot allocate 32 GiB")

    spec = sweep()
    monkeypatch.setattr(converters, "_suggest", fails)
    with pytest.raises(SpecError, match=r"tpe fails \(MemoryError: cannot allocate 32 GiB\); use other bounds"):
        check_proposals(spec)
    check_proposals(suite_registry.load("digits"))


@pytest.mark.parametrize("costs", [0, 1])
@pytest.mark.parametrize("kind", ["tpe", "gp", "nsga2", "qmc", "random"])
def test_every_sampler_proposes_points_of_the_space_first_those_queued(kind, costs):
    learns_early = {"tpe": ["startup_trials=4"], "gp": ["startup_trials=13"], "nsga2": ["population=4"]}.get(kind, [])
    spec = sweep(f"sampler.kind={kind}", *learns_early, "scheduler.kind=none", f"costs={['parameters'][:costs]}")
    study = optuna.create_study(directions=spec.directions, sampler=to_sampler(spec))
    study.enqueue_trial(to_params(SPACE, POINTS[0]))
    points = searched(study, 15, costs)
    assert points[0] == POINTS[0]
    assert all(contains(SPACE, point) for point in points)
    assert len({len(point) for point in points}) > 1, "fields come into play and go"


@pytest.mark.parametrize("point", POINTS)
def test_a_known_point_comes_back_from_a_study_and_stays_in_it(point):
    spelt = {
        path: list(value) if isinstance(value, tuple) else value for path, value in point.items()
    }  # as JSON has it
    params, distributions = to_params(SPACE, spelt), to_distributions(SPACE, spelt)
    study = optuna.create_study(direction="maximize")
    study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=1.0))
    study.enqueue_trial(params)
    trial = study.ask()
    assert suggest(SPACE, trial) == point
    study.tell(trial, 1.0)
    known, reported = study.trials
    assert known.distributions == reported.distributions
    assert to_point(SPACE, known.params) == to_point(SPACE, reported.params) == point


def test_every_dimension_draws_its_values():
    study = optuna.create_study(sampler=to_sampler(sweep("sampler.kind=random")))
    points = [suggest(SPACE, study.ask()) for _ in range(100)]
    drawn = {path: {point[path] for point in points if path in point} for path in SPACE}
    assert drawn["network"] == {("a",), ("b",), ("a", "b")}
    assert drawn["tau"] == {0.1, 0.3, 0.5, 0.7}
    assert (drawn["size"], drawn["share"], drawn["width"]) == ({1, 2, 3, 4}, {True, False}, {2, 5, 8})
    assert sum(rate < 0.1 for rate in drawn["rate"]) > 30, "evenly over orders of magnitude"


@pytest.mark.parametrize("kind", ["tpe", "nsga2", "random"])
def test_a_sampler_repeats_itself_by_its_seed_and_not_when_it_goes_on(kind):
    def rates(spec, proposed=0):
        study = optuna.create_study(direction="maximize", sampler=to_sampler(spec, proposed))
        return [point["rate"] for point in searched(study, 3)]

    spec, other = sweep(f"sampler.kind={kind}"), sweep(f"sampler.kind={kind}", "sampler.seed=1")
    assert rates(spec) == rates(spec)
    assert not {*rates(spec)} & {*rates(other)}
    assert not {*rates(spec)} & {*rates(spec, proposed=3)}


@pytest.mark.parametrize("kind", ["tpe", "gp"])
def test_samplers_learn_from_trials_they_did_not_propose(kind):
    """Twenty known trials leave no doubt that rates near 1 are best."""
    spec, learns = sweep(f"sampler.kind={kind}"), {}
    for known in (0, 20):
        study = optuna.create_study(direction="maximize", sampler=to_sampler(spec))
        for place in range(known):
            point = POINTS[1] | {"rate": 10 ** (-2 + 2 * place / 19)}
            study.add_trial(
                optuna.trial.create_trial(
                    params=to_params(SPACE, point),
                    distributions=to_distributions(SPACE, point),
                    value=-abs(math.log(point["rate"])),
                )
            )
        learns[known] = sum(abs(math.log(point["rate"])) for point in searched(study, 3))
    assert learns[20] < learns[0] / 2
