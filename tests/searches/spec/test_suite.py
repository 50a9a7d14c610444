"""Suites as data: their rows, overrides, and points."""

import json

import pytest

from mcl_ray.analysis.published import TABLES, column_of
from mcl_ray.analysis.published_setting import deviations
from mcl_ray.config import recipes
from mcl_ray.config.overrides import parse, replace
from mcl_ray.errors import SpecError
from mcl_ray.results.queries import BEST_PEER_TEST
from mcl_ray.results.store import SweepWriter
from searches.linear_eval import planned_follower, started
from searches.spec import search_registry, suite_registry
from searches.spec.difference import difference, only_extends
from searches.spec.space import contains
from searches.spec.stored_spec import parse_stored
from searches.spec.suite import Foundation, Pretrained, SuiteSpec


def resolve_suite(name, overrides):
    return suite_registry.load(name).with_overrides(overrides)


def suite(*overrides, name="digits"):
    return suite_registry.load(name).with_fields(parse(SuiteSpec, overrides))


def runs(asked):
    return {row: asked.trial_run({"row": row}) for row in asked.rows}


@pytest.mark.parametrize("name", ["cifar", "imagenet"])
def test_a_published_table_has_a_row_for_each_figure_which_trains_as_its_recipe(name):
    asked, table = suite_registry.load(name), TABLES[name]
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


def test_the_description_of_a_suite_is_true():
    said = {"cifar": "ten networks, 31 rows of 300 epochs", "imagenet": "two networks, seven rows", "moco": "both"}
    for name, words in said.items():
        assert words in suite_registry.SUITES[name].__doc__
        assert suite_registry.load(name).trials == {"cifar": 31, "imagenet": 7, "moco": 2}[name]


def test_the_table_without_labels_has_two_rows_and_so_has_the_suite_that_follows():
    asked = suite_registry.load("moco")
    for row, run in runs(asked).items():
        recipe = recipes.RECIPES["moco" if row == "resnet18_x2" else "moco_baseline"]()
        assert run == replace(recipe, {"recipe": "moco"})
    following = planned_follower(asked)
    assert (following.name, following.repeats, following.table) == ("moco_lincls", 3, "moco")
    assert {row: column_of(run) for row, run in runs(following).items()} == {
        "resnet18_baseline": "baseline",
        "resnet18_x2": "x2",
    }
    assert not any(deviations(run) for run in runs(following).values()), "as published"
    assert (asked.objective, following.objective) == ("test/knn_top1/best", BEST_PEER_TEST.key)


def test_each_following_run_is_built_on_the_run_of_its_row_and_seed():
    asked = suite("seed=5", "repeats=2", "cohort.size=3", "rows=[resnet18_x2]", name="moco")
    planned = planned_follower(asked)
    runs = {
        row: tuple(Pretrained(run=one.run, backbone=f"sha256:{one.run.seed:064x}") for one in before)
        for row, before in planned.built_on.runs.items()
    }
    following = replace(planned, {"built_on": Foundation(sweep="moco-1", runs=runs)})
    for seed, run in zip((5, 6), following.trial_runs({"row": "resnet18_x2"}), strict=True):
        assert (run.seed, run.pretraining.seed, run.linear.backbone) == (seed, seed, f"sha256:{seed:064x}")
        assert run.pretraining.method == "moco"
        assert run.cohort == run.pretraining.cohort
        assert run.cohort.size == 3
    assert parse_stored(json.dumps(following.model_dump(mode="json"))) == following


def test_overrides_of_the_first_run_of_the_following_one_and_of_both():
    asked = resolve_suite("moco", ("epochs=3", "image_size=64", "seed=4", "lincls.lr=2", "lincls.batch.size=32"))
    assert (asked.run.schedule.epochs, asked.run.optimizer.lr, asked.run.batch.size) == (3, 0.03, 256)
    assert (asked.then.schedule.epochs, asked.then.optimizer.lr, asked.then.batch.size) == (100, 2.0, 32)
    for run in (asked.run, asked.then):
        assert (run.data.image_size, run.seed, run.evaluation.test) == (64, 4, "every_epoch")
    with pytest.raises(SpecError, match="unknown field 'alhpa'"):
        resolve_suite("moco", ("lincls.alhpa=1",))


def test_an_override_is_of_every_row_also_of_those_that_have_their_own():
    asked = suite("epochs=2", "networks=resnet20", "gamma=0.5")
    for run in runs(asked).values():
        assert (run.schedule.epochs, run.cohort.peers[0], run.losses.gamma) == (2, "resnet20", 0.5)
    assert runs(asked)["resnet8_baseline"].losses.alpha == 0.0
    assert runs(asked)["resnet8_x4"].cohort.size == 4


def test_rows_are_selected_by_name_and_added():
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
        (["rows.a={networks: resnt8}"], "row a: unknown network 'resnt8'; did you mean 'resnet8'?"),
        (["validation_fraction=0.1"], "run.data.validation_fraction = 0 must hold, but got 0.1"),
        (["seed=4294967295"], "run.seed + repeats <= 2**32 must hold, but got seed=4294967295, repeats=3"),
        (["run=digts"], "unknown recipe 'digts'; did you mean 'digits'?"),
        (["then=moco"], "run.method=supervised and then.method=moco"),
        (["then=lincls"], "the same images and seeds, but got another data"),
        (["run=lincls", "rows={a: {}}"], "give what trains them as run, and the classification as then, but got run.m"),
        (["built_on={sweep: a, runs: {}}"], "run.method=supervised, and it has no such runs for resnet8_baseline, res"),
        (["repeats=0"], "repeats must be greater than or equal to 1, but got 0"),
        (["table=cifr"], "table must be 'cifar', 'imagenet' or 'moco', but got 'cifr'"),
    ],
)  # fmt: skip
def test_invalid_suites_state_rule_and_values(overrides, rule):
    with pytest.raises(SpecError) as refused:
        suite(*overrides)
    assert rule in str(refused.value)


def test_a_file_may_name_a_recipe_and_its_record_is_the_same_suite(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\nrun: digits\nrows:\n  alone: {cohort.size: 1}\n  mixed: {networks: [resnet8, resnet20]}\n"
    )
    asked = suite_registry.load(str(file))
    assert asked.run == replace(recipes.digits(), {"evaluation.test": "every_epoch"})
    assert [run.cohort.peers for run in runs(asked).values()] == [("resnet8",), ("resnet8", "resnet20")]
    again = parse_stored(json.dumps(asked.model_dump(mode="json")))
    assert again == asked
    assert parse_stored(json.dumps(search_registry.digits().model_dump(mode="json"))) == search_registry.digits()


@pytest.mark.parametrize(
    ("asked", "newer", "rule"),
    [
        (search_registry.digits(), {"version": 2, "hopes": 1}, "version <= 1 of a search's spec must hold, but got 2"),
        (suite(), {"version": 2, "hopes": 1}, "version <= 1 of a suite's spec must hold, but got 2"),
        (
            search_registry.digits(),
            {"run": search_registry.digits().run.model_dump(mode="json") | {"version": 3, "hopes": 1}},
            "version <= 1 of a run's spec must hold, but got 3",
        ),
    ],
)
def test_a_record_of_a_newer_version_is_refused_by_name(asked, newer, rule):
    with pytest.raises(SpecError) as error:
        parse_stored(json.dumps(asked.model_dump(mode="json") | newer))
    assert str(error.value).startswith(f"a newer mcl-ray wrote the sweep {asked.name}, ")
    assert str(error.value).endswith(rule)


def test_every_row_is_a_point_once_and_has_every_seed():
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


def test_a_resumed_suite_must_be_the_same_suite():
    asked = suite()
    assert only_extends(asked, suite())
    assert not only_extends(asked, suite("repeats=4"))
    assert not only_extends(asked, search_registry.digits())
    assert difference(asked, suite("rows=[resnet8_x*]", "rows.resnet8_x4={cohort.size: 3}")) == [
        "rows.resnet8_baseline: {cohort.networks: resnet8, losses.alpha: 0.0, losses.beta: 0.0, losses.gamma: 0.0, "
        "losses.lam: 0.0} -> -",
        "rows.resnet8_x4: {cohort.networks: resnet8, cohort.size: 4} -> {cohort.size: 3}",
    ]


@pytest.mark.parametrize(
    ("name", "overrides", "rule"),
    [
        ("moco", ["lincls.linear.backbone=random"], "so that linear.backbone cannot be given"),
        ("moco", ["lincls.networks=resnet34"], "so that cohort.networks cannot be given"),
        ("moco", ["then=lincls", "lincls.lr=3"], "whole, as then, or field by field, but got optimizer.lr too"),
        ("moco", ["lincls.lr=1", "then.lr=2"], "optimizer.lr was given twice"),
        ("moco", ["lincls.queue.keys=5"], "queue.keys requires method=moco, but got method=linear"),
        ("moco", ["lincls.tau=0.5"], "losses.tau requires method=supervised"),
        ("moco", ["features=mean"], "linear.features requires method=linear, but got method=moco"),
        ("digits", ["evaluation.test=never"], "run.evaluation.test=every_epoch must hold, but got never"),
        ("digits", ["bank.negatives=5"], "bank.negatives requires method=supervised_bank"),
    ],
)  # fmt: skip
def test_fields_without_effect_are_refused(name, overrides, rule):
    with pytest.raises(SpecError) as refused:
        resolve_suite(name, tuple(overrides))
    assert rule in str(refused.value)


def test_the_following_run_is_named_then_where_both_recipes_have_the_same_name(tmp_path):
    file = tmp_path / "mine.yaml"
    tree = suite_registry.load("moco").model_dump(mode="json")
    tree["run"]["recipe"] = tree["then"]["recipe"] = "custom"
    file.write_text(json.dumps(tree))
    asked = resolve_suite(str(file), ("lr=0.01", "repeats=2", "then.lr=2"))
    assert (asked.repeats, asked.run.optimizer.lr, asked.then.optimizer.lr) == (2, 0.01, 2.0)


def test_rows_that_were_started_are_found_and_the_others_remain(tmp_path):
    following = planned_follower(suite_registry.load("moco"))
    one, other = (following.model_copy(update={"rows": {row: {}}}) for row in following.rows)
    ids = []
    for asked in (one, other):
        with SweepWriter.create(
            tmp_path, asked.name, asked, objective=asked.objective, mode="max", trials_planned=1
        ) as writer:
            ids.append(writer.sweep_id)
        if asked is one:
            assert started(following, tmp_path)[0] == ids
            assert list(started(following, tmp_path)[1].rows) == ["resnet18_x2"]
    assert started(following, tmp_path) == (ids, None)
    assert started(replace(following, {"run.optimizer.lr": 1}), tmp_path)[0] == []
