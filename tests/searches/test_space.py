import pytest

from mcl_ray.errors import SpecError
from mcl_ray.overrides import parse, replace
from mcl_ray.sweep import resolve
from searches import catalog
from searches.spec import SweepSpec


def changed(*overrides, search="digits"):
    return replace(catalog.load(search), parse(SweepSpec, overrides))


@pytest.mark.parametrize("name", catalog.SEARCHES)
def test_a_search_varies_the_four_weights_and_the_cohort_size_and_starts_as_published(name):
    sweep = catalog.load(name)
    fields = {"losses.alpha", "losses.beta", "losses.gamma", "losses.lam", "cohort.size"}
    assert set(sweep.space) == fields
    assert sweep.start_point == {
        "losses.alpha": 0.1, "losses.beta": 0.1, "losses.gamma": 1.0, "losses.lam": 1.0, "cohort.size": 2,
    }  # fmt: skip


@pytest.mark.parametrize("name", catalog.SEARCHES)
def test_a_trial_never_reads_the_test_split(name):
    sweep = catalog.load(name)
    trial = sweep.trial_run({"losses.alpha": 0.7})
    assert trial.evaluation.test == "never"
    assert trial.data.validation_fraction > 0
    assert trial.losses.alpha == 0.7
    assert sweep.best_run({"losses.alpha": 0.7}).evaluation.test == "at_end"
    assert changed("run.evaluation.test=every_epoch", search=name).run.evaluation.test == "never"


def test_a_search_survives_its_file(tmp_path):
    sweep = changed("trials=3", "epochs=2", "space.tau={kind: float, low: 0.05, high: 1, log: true}")
    file = tmp_path / "search.yaml"
    import yaml

    file.write_text(yaml.safe_dump(sweep.model_dump(mode="json")))
    assert catalog.load(str(file)) == sweep


def test_entries_of_the_space_are_replaced_added_and_taken_out():
    assert changed("space.alpha={kind: choice, values: [0, 1]}").space["losses.alpha"].values == (0, 1)
    assert "losses.tau" in changed("space.tau={kind: float, low: 0.05, high: 1}").space
    assert "losses.alpha" not in changed("space.alpha=null").space
    assert (
        changed("space.networks={kind: choice, values: [resnet8, resnet20]}").start_point["cohort.networks"]
        == "resnet8"
    )
    assert changed("space.alpha={kind: float, low: 0.5, high: 1}").start_point is None


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("trials=0", "trials must be greater than or equal to 1, but got 0"),
        ("space.alpha={kind: float, low: 2, high: 1}", "low < high, but got low=2.0, high=1.0"),
        ("space.alpha={kind: float, low: 0, high: 1, log: true}", "needs low > 0, but got low=0.0"),
        ("space.alpha={kind: float, low: -1, high: 1}", "losses.alpha must be greater than or equal to 0, but got -1"),
        ("space.lambda={kind: float, low: 0, high: 1}", "unknown field 'lambda'; did you mean 'lam'?"),
        ("space={}", "must name one field or more"),
        (
            "space={alpha: {kind: float, low: 0, high: 1}, losses.alpha: {kind: float, low: 0, high: 1}}",
            "is there twice",
        ),
        ("space={cohort.size: {kind: int, low: 1, high: 17}}", "less than or equal to 16, but got 17"),
        ("space.networks={kind: choice, values: [resnet8, resnt8]}", "unknown network 'resnt8'"),
        ("objective=test/top1/mean", "validation"),
        ("validation_fraction=0", "validation_fraction > 0 must hold, but got 0"),
        ("run.alpha=-1", "unknown field 'run.alpha'"),
        ("space.fraction={kind: choice, values: [0.1, 0.2]}", "unknown field 'fraction'"),
        ("space.validation_fraction={kind: choice, values: [0.1, 0.2]}", "data.validation_fraction cannot be searched"),
        ("space.evaluation.test={kind: choice, values: [never, at_end]}", "evaluation.test cannot be searched"),
        ("space.epochs={kind: int, low: 5, high: 9}", "schedule.epochs cannot be searched"),
        ("objective=validation/top1/peer1", "but got peer1 and sizes from 1"),
        ("version=2", "version must be less than or equal to 1, but got 2"),
    ],
)
def test_bad_searches_state_rule_and_values(override, rule):
    with pytest.raises(SpecError) as error:
        changed(override)
    assert rule in str(error.value)


def test_a_field_cannot_be_searched_and_fixed():
    with pytest.raises(SpecError, match=r"losses\.alpha is searched; space\.losses\.alpha=null takes it out"):
        resolve("digits", ("alpha=0.5",))
    fixed = resolve("digits", ("alpha=0.5", "space.alpha=null"))
    assert fixed.run.losses.alpha == 0.5
