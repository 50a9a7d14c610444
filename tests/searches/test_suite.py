"""Suites as data: their rows, what an override does to them, and what the engine is told."""

import json

import pytest

from mcl_ray import recipes
from mcl_ray.errors import SpecError
from mcl_ray.overrides import parse, replace
from mcl_ray.results.published import TABLES, column_of
from mcl_ray.results.series import BEST_PEER_TEST
from searches import catalog, suites
from searches.difference import difference, only_adds
from searches.experiment import stored
from searches.space import contains
from searches.suite import SuiteSpec


def suite(*overrides, name="digits"):
    return suites.load(name).with_fields(parse(SuiteSpec, overrides))


def runs(asked):
    return {row: asked.trial_run({"row": row}) for row in asked.rows}


@pytest.mark.parametrize("name", ["cifar", "imagenet"])
def test_a_published_table_has_a_row_for_each_figure_which_trains_as_its_recipe(name):
    asked, table = suites.load(name), TABLES[name]
    published = {(network, column) for network, row in table.figures.items() for column in row}
    found = {}
    for row, run in runs(asked).items():
        column = column_of(run)
        assert row == f"{run.cohort.peers[0]}_{column}"
        recipe = recipes.RECIPES[{"x2": name}.get(column, f"{name}_{column}")]()
        assert run == replace(recipe, {"recipe": name, "cohort.networks": run.cohort.networks})
        found[run.cohort.peers[0], column] = run
    assert set(found) == published
    assert (asked.table, asked.trials, asked.networks) == (name, len(published), tuple(table.figures))
    assert asked.repeats == (3 if name == "cifar" else 1), "as often as the authors give a spread"


def test_what_a_listing_says_of_a_suite_is_so():
    for name, words in {"cifar": "ten networks, 31 rows of 300 epochs", "imagenet": "two networks, seven rows"}.items():
        assert words in suites.SUITES[name].__doc__
        assert suites.load(name).trials == {"cifar": 31, "imagenet": 7}[name]


def test_an_override_is_of_every_row_also_of_those_that_have_their_own():
    asked = suite("epochs=2", "networks=resnet20", "gamma=0.5")
    for run in runs(asked).values():
        assert (run.schedule.epochs, run.cohort.peers[0], run.losses.gamma) == (2, "resnet20", 0.5)
    assert runs(asked)["resnet8_baseline"].losses.alpha == 0.0
    assert runs(asked)["resnet8_x4"].cohort.size == 4


def test_rows_are_taken_by_name_and_added():
    def taken(*overrides, name="cifar"):
        return list(suite(*overrides, name=name).rows)

    resnet32 = ["resnet32_baseline", "resnet32_x2", "resnet32_x4"]
    assert taken("rows=[resnet32_*]") == resnet32
    assert taken("rows=[wrn_16_2_x4_kd, resnet32_x*]") == ["resnet32_x2", "resnet32_x4", "wrn_16_2_x4_kd"]
    assert taken("rows=[resnet32_*]", "rows.resnet32_x4=null", "rows.alone={cohort.size: 1}") == [
        *resnet32[:2],
        "alone",
    ]
    assert taken("rows={a: {}, b: {cohort.size: 3}}") == ["a", "b"]


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        (["rows=[resnet8_x3]"], "unknown row 'resnet8_x3'; did you mean 'resnet8_x"),
        (["rows=[]"], "rows"),
        (["rows.a={}", "rows.b={cohort.size: 2}"], "no two rows train the same, but resnet8_x2 and a do; rows="),
        (["cohort.size=2"], "no two rows train the same, but resnet8_x2 and resnet8_x4 do"),
        (["rows.a={epochs: 3}"], "schedule.epochs is the same for all rows, but a has its own; give run.sch"),
        (["rows.a={validation_fraction: 0.1}"], "data.validation_fraction is the same for all rows"),
        (["rows.a={seed: 1}"], "seed is the same for all rows"),
        (["rows.a={alhpa: 1}"], "unknown field 'alhpa'; did you mean 'alpha'?"),
        (["rows.a={networks: resnt8}"], "row a: cohort: unknown network 'resnt8'; did you mean 'resnet8'?"),
        (["validation_fraction=0.1"], "run.data.validation_fraction = 0 must hold, but got 0.1"),
        (["seed=4294967295"], "run.seed + repeats <= 2**32 must hold, but got seed=4294967295, repeats=3"),
        (["run=digts"], "unknown recipe 'digts'; did you mean 'digits'?"),
        (["repeats=0"], "repeats must be greater than or equal to 1, but got 0"),
        (["table=cifr"], "table must be 'cifar', 'imagenet' or 'moco', but got 'cifr'"),
    ],
)  # fmt: skip
def test_what_no_suite_can_have(overrides, rule):
    with pytest.raises(SpecError) as refused:
        suite(*overrides)
    assert rule in str(refused.value)


def test_a_file_may_name_a_recipe_and_its_record_is_the_same_suite(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\nrun: digits\nrows:\n  alone: {cohort.size: 1}\n  mixed: {networks: [resnet8, resnet20]}\n"
    )
    asked = suites.load(str(file))
    assert asked.run == replace(recipes.digits(), {"evaluation.test": "every_epoch"})
    assert [run.cohort.peers for run in runs(asked).values()] == [("resnet8",), ("resnet8", "resnet20")]
    again = stored(json.dumps(asked.model_dump(mode="json")))
    assert again == asked
    assert stored(json.dumps(catalog.digits().model_dump(mode="json"))) == catalog.digits()


@pytest.mark.parametrize(
    ("asked", "newer", "rule"),
    [
        (catalog.digits(), {"version": 2, "hopes": 1}, "version <= 1 of a search's spec must hold, but got 2"),
        (suite(), {"version": 2, "hopes": 1}, "version <= 1 of a suite's spec must hold, but got 2"),
        (
            catalog.digits(),
            {"run": catalog.digits().run.model_dump(mode="json") | {"version": 3, "hopes": 1}},
            "version <= 1 of a run's spec must hold, but got 3",
        ),
    ],
)
def test_a_record_of_a_newer_version_says_so_and_whose_it_is(asked, newer, rule):
    with pytest.raises(SpecError) as error:
        stored(json.dumps(asked.model_dump(mode="json") | newer))
    assert str(error.value).startswith(f"a newer mcl-ray wrote the sweep {asked.name}, ")
    assert str(error.value).endswith(rule)


def test_the_engine_is_told_of_every_row_once_and_of_every_seed():
    asked = suite("repeats=2", "seed=5")
    assert asked.objective == BEST_PEER_TEST.key
    assert [point["row"] for point in asked.first_points] == list(asked.rows)
    assert all(contains(asked.space, point) for point in asked.first_points)
    turned = asked.with_fields({"rows": dict(reversed(asked.rows.items()))})
    assert (turned, turned.space) == (asked, asked.space), "in whatever order a record has the rows"
    assert (asked.trials, asked.num_runs) == (4, 8)
    pair = asked.trial_runs({"row": "resnet8_x4"})
    assert [(run.seed, run.cohort.size, run.evaluation.test) for run in pair] == [
        (5, 4, "every_epoch"),
        (6, 4, "every_epoch"),
    ]


def test_a_suite_that_goes_on_is_the_same_suite():
    asked = suite()
    assert only_adds(asked, suite())
    assert not only_adds(asked, suite("repeats=4"))
    assert not only_adds(asked, catalog.digits())
    assert difference(asked, suite("rows=[resnet8_x*]", "rows.resnet8_x4={cohort.size: 3}")) == [
        "rows.resnet8_baseline: {cohort.networks: resnet8, losses.alpha: 0.0, losses.beta: 0.0, losses.gamma: 0.0, "
        "losses.lam: 0.0} -> -",
        "rows.resnet8_x4: {cohort.networks: resnet8, cohort.size: 4} -> {cohort.size: 3}",
    ]
