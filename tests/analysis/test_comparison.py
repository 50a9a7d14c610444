"""Comparison with published tables: the cell that a run belongs to, and the numbers in it."""

import dataclasses
import io
import re

import pytest
from rich.console import Console

from mcl_ray.analysis.comparison import compare, compare_results, outcomes
from mcl_ray.analysis.published import CIFAR, IMAGENET, MOCO, TABLES, column_of, published_figure
from mcl_ray.analysis.published_setting import deviations
from mcl_ray.analysis.ranking import summary
from mcl_ray.config import recipes
from mcl_ray.config.overrides import replace
from mcl_ray.errors import StoreError
from mcl_ray.reports.comparison_table import comparison_view
from mcl_ray.reports.terminal import describe_published
from mcl_ray.results.provenance import on_workers, workers_of
from mcl_ray.results.store import EpochRow, RunWriter, read_epochs, read_runs
from tests.support.synthetic import PROVENANCE

FIELDS = {"baseline": recipes.NO_MUTUAL_LEARNING, "x2": {}, "x4": {"cohort.size": 4}}
FIELDS["x4_kd"] = {"cohort.size": 4, "losses.logit_distillation": "reference"}


def write(root, spec, curve, state="finished", split="test", workers=1, **fields):
    """Write a run whose best peer has the figures of `curve`; the mean of peers, which must not count, is higher."""
    provenance = dataclasses.replace(PROVENANCE, hardware=on_workers(PROVENANCE.hardware, workers))
    with RunWriter.create(root, replace(spec, fields), provenance=provenance) as writer:
        for epoch, value in enumerate(curve, start=1):
            rows = [EpochRow("best", split, "top1", value), EpochRow("mean", split, "top1", 99.0)]
            writer.record_epoch(epoch, rows)
        writer.finish(state)


def compared(root, table=CIFAR):
    return compare(table, outcomes(root))


def shown(comparison, networks=None, width=200):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(comparison_view(comparison, networks))
    return console.export_text()


def lines_of(text, network):
    """Return the lines of a network in the table, each as its cells."""
    lines = [re.findall(r"\d+\.\d+(?: ± [\d.]+)?(?: \(\d\))?|[+-][\d.]+|\S+", line) for line in text.splitlines()]
    (start,) = (place for place, cells in enumerate(lines) if cells and cells[0] == network)
    return [lines[start][1:], lines[start + 1], lines[start + 2]]


def test_a_cell_is_mean_and_std_of_the_best_epochs_of_its_seeds(tmp_path):
    for seed, curve in enumerate(([50.0, 71.0, 70.0], [73.0], [72.0, 60.0])):
        write(tmp_path, recipes.cifar(), curve, seed=seed)
    write(tmp_path, recipes.cifar_baseline(), [70.91])
    found = compared(tmp_path)
    seeds = found.reproduced["resnet32", "x2"]
    assert sorted(seeds.values) == [71.0, 72.0, 73.0]
    assert (seeds.n, *seeds.figure) == (3, 72.0, 1.0)
    assert found.reproduced["resnet32", "baseline"].figure == (70.91, None)
    assert found.difference(("resnet32", "x2")) == pytest.approx(72.0 - 72.96)
    assert found.difference(("resnet32", "x4")) is None
    assert (found.others, dict(found.left_out)) == ((), {})
    assert lines_of(shown(found), "resnet32") == [
        ["ours", "70.91 (1)", "72.00 ± 1.00 (3)", "–", "–"],
        ["published", "70.91 ± 0.14", "72.96 ± 0.28", "74.04 ± 0.07", "–"],
        ["difference", "+0.00", "-0.96", "–", "–"],
    ]
    assert lines_of(shown(found), "hcgnet_a2")[:2] == [
        ["ours", "–", "–", "–", "–"],
        ["published", "79.00 ± 0.41", "–", "–", "82.47 ± 0.20"],
    ]


@pytest.mark.parametrize("column", FIELDS)
@pytest.mark.parametrize("table", ["cifar", "imagenet"])
def test_the_recipes_with_each_published_network_are_the_cells_as_published(table, column):
    known = recipes.RECIPES
    recipe = known[{"x2": table}.get(column, f"{table}_{column}")]()
    for network, row in TABLES[table].figures.items():
        spec = replace(recipe, {"cohort.networks": network})
        assert (spec.method, column_of(spec), deviations(spec)) == (TABLES[table].method, column, ())
        derived = replace(known[table](), FIELDS[column] | {"cohort.networks": network, "recipe": recipe.recipe})
        assert derived == spec
        assert table != "cifar" or (published_figure(spec) is not None) == (column in row)


@pytest.mark.parametrize(
    "fields",
    [
        {"cohort.size": 3},
        {"losses.beta": 0.0},
        {"losses.logit_distillation": "all"},
        {"cohort.networks": ("resnet32", "resnet56")},
        recipes.NO_MUTUAL_LEARNING | {"losses.logit_distillation": "all"},
    ],
)
def test_a_run_that_was_not_published_has_no_column(fields):
    assert column_of(replace(recipes.cifar(), fields)) is None


def classified(pretraining):
    """Return the spec of linear classification on a pretrained run."""
    cohort = {f"cohort.{name}": value for name, value in pretraining.cohort.model_dump().items()}
    return replace(recipes.lincls(), cohort | {"pretraining": pretraining, "linear.backbone": f"sha256:{'0' * 64}"})


@pytest.mark.parametrize(
    ("pretraining", "column"),
    [
        (recipes.moco(), "x2"),
        (recipes.moco_baseline(), "baseline"),
        (replace(recipes.moco(), {"cohort.size": 3}), None),
        (replace(recipes.moco(), {"losses.lam": 0.0}), None),
        (recipes.imagenet(), None),
    ],
)
def test_linear_classification_has_the_column_of_its_pretraining(pretraining, column):
    assert column_of(classified(pretraining)) == column
    assert MOCO.columns == ("baseline", "x2")


def test_linear_classification_as_published_and_not():
    assert column_of(replace(recipes.lincls(), {"linear.backbone": "random"})) is None
    for recipe in (recipes.moco, recipes.moco_baseline):
        assert deviations(classified(recipe())) == ()
    shorter = classified(replace(recipes.moco(), {"schedule.epochs": 2, "schedule.milestones": (1,)}))
    assert deviations(replace(shorter, {"linear.features": "mean"})) == (
        "linear.features=mean (published: each)",
        "pretraining.schedule.epochs=2 (published: 200)",
        "pretraining.schedule.milestones=[1] (published: [120, 160])",
    )
    figure = published_figure(shorter)
    assert str(figure) == "48.04 ± 0.13"
    assert figure.label == "MoCo on ImageNet, linear classification, resnet18, MCL ×2"
    assert len(figure.deviations) == 2


def test_a_setting_without_effect_is_as_published():
    assert deviations(replace(recipes.cifar_baseline(), {"losses.tau": 0.3, "cohort.embedding_dim": 64})) == ()
    assert deviations(replace(recipes.cifar(), {"losses.tau": 0.3})) == ("losses.tau=0.3 (published: 0.1)",)


def test_batch_statistics_over_fewer_images_than_published_are_another_setting(tmp_path):
    write(tmp_path, recipes.cifar(), [72.0])
    write(tmp_path, recipes.cifar(), [71.0], workers=4)
    write(tmp_path, recipes.cifar(), [73.0], workers=4, seed=1, **{"compute.batch_statistics": "synchronised"})
    found = compared(tmp_path)
    assert sorted(found.reproduced["resnet32", "x2"].values) == [72.0, 73.0], "synchronised, over 128 images as well"
    (other,) = found.others
    assert other.deviations == ("batch statistics over 32 images (published: batch statistics over 128 images)",)
    assert other.cells["resnet32", "x2"].values == (71.0,)


@pytest.mark.parametrize(
    ("workers", "statistics", "own"),
    [
        (8, "local", None),
        (4, "local", "batch statistics over 64 images, keys shuffled"),
        (1, "local", "batch statistics over 256 images, keys not shuffled"),
        (8, "synchronised", "batch statistics over 256 images, keys not shuffled"),
    ],
)
def test_moco_is_as_published_on_eight_workers_that_shuffle_keys(tmp_path, workers, statistics, own):
    pretraining = replace(recipes.moco(), {"compute.batch_statistics": statistics})
    write(tmp_path, pretraining, [], workers=workers)
    write(tmp_path, classified(pretraining), [48.0])
    found = compared(tmp_path, MOCO)
    published = "(published: batch statistics over 32 images, keys shuffled)"
    expected = () if own is None else (f"pretraining.{own} {published}",)
    assert [section.deviations for section in found.others] == ([] if own is None else [expected])
    assert (("resnet18", "x2") in found.reproduced) == (own is None)
    (linear,) = [row["run_id"] for row in read_runs(tmp_path).to_pylist() if row["recipe"] == "lincls"]
    assert summary(read_runs(tmp_path), read_epochs(tmp_path), linear).published.deviations == expected


def test_the_workers_of_a_pretraining_are_looked_for_in_the_whole_results_folder(tmp_path):
    write(tmp_path, recipes.moco(), [], workers=8)
    sweep = tmp_path / "sweeps" / "table-1"
    write(sweep, classified(recipes.moco()), [48.0])
    write(tmp_path / "elsewhere", classified(recipes.moco()), [48.0])
    assert [run.pretraining_workers for run in outcomes(sweep)] == [8]
    assert compared(tmp_path, MOCO).reproduced["resnet18", "x2"].n == 1
    assert [run.pretraining_workers for run in outcomes(tmp_path / "elsewhere")] == [0]
    (other,) = compared(tmp_path / "elsewhere", MOCO).others
    assert other.deviations[0].startswith("pretraining.batch statistics over an unknown number of images (published: ")
    write(tmp_path, recipes.moco(), [], workers=1)
    assert not compared(tmp_path, MOCO).reproduced, "either may be the one"


def test_the_recorded_hardware_names_the_workers():
    assert [workers_of(on_workers("a GPU", workers)) for workers in (1, 2, 16)] == [1, 2, 16]
    assert on_workers("4 cores", 1) == "4 cores"
    assert [workers_of(on_workers("a GPU", 8, parts)) for parts in (1, 2, 8, None)] == [1, 2, 8, 8]


def test_for_other_images_the_published_figure_is_shown_without_a_difference(tmp_path):
    write(tmp_path, classified(recipes.moco()), [48.0], **{"data.source": "parquet"})
    facts = describe_published(summary(read_runs(tmp_path), read_epochs(tmp_path)))
    assert facts["published"].startswith("48.04 ± 0.13 %")
    assert facts["not the published setting"].startswith("data.source=parquet (published: folder)")
    assert "difference" not in facts


def test_runs_in_other_settings_are_grouped_and_not_compared(tmp_path):
    write(tmp_path, recipes.cifar(), [60.0], **{"schedule.epochs": 20})
    write(tmp_path, recipes.cifar_baseline(), [55.0], **{"schedule.epochs": 20})
    write(tmp_path, recipes.cifar(), [61.0], **{"schedule.epochs": 20, "data.checksum": "off"})
    write(tmp_path, recipes.cifar_baseline(), [71.5], **{"cohort.size": 4, "cohort.sharing": "none"})
    found = compared(tmp_path)
    assert found.reproduced == {}
    epochs = "schedule.epochs=20 (published: 300)"
    cells = {other.deviations: {cell: seeds.values for cell, seeds in other.cells.items()} for other in found.others}
    assert cells == {
        (epochs,): {("resnet32", "x2"): (60.0,), ("resnet32", "baseline"): (55.0,)},
        ("data.checksum=off (published: official)", epochs): {("resnet32", "x2"): (61.0,)},
        ("cohort.sharing=none (published: reference)", "cohort.size=4 (of a baseline: 2)"): {
            ("resnet32", "baseline"): (71.5,)
        },
    }
    text = shown(found)
    assert "difference" not in text
    assert f"not as published, so compared with nothing: {epochs}\n" in text
    assert [len(section.deviations) for section in found.others] == [1, 2, 2]


def test_a_baseline_is_shown_beside_the_cohorts_whose_other_settings_have_no_effect_on_it(tmp_path):
    baseline, shorter = {"schedule.epochs": 20}, {"schedule.epochs": 20, "losses.tau": 0.3}
    write(tmp_path, recipes.cifar(), [60.0], **shorter, **{"cohort.embedding_dim": 64})
    write(tmp_path, recipes.cifar(), [61.0], **shorter)
    write(tmp_path, recipes.cifar_baseline(), [55.0], **baseline)
    write(tmp_path, recipes.cifar(), [62.0], **baseline, **{"optimizer.lr": 0.05})
    write(tmp_path, recipes.cifar_baseline(), [70.0])
    found = compared(tmp_path)
    epochs, tau = "schedule.epochs=20 (published: 300)", "losses.tau=0.3 (published: 0.1)"
    assert found.reproduced["resnet32", "baseline"].values == (70.0,)
    cells = {
        other.deviations: {column: seeds.values for (_, column), seeds in other.cells.items()} for other in found.others
    }
    both = {"x2": (60.0,), "baseline": (55.0,)}
    assert cells == {
        (tau, epochs): both | {"x2": (61.0,)},
        ("optimizer.lr=0.05 (published: 0.1)", epochs): {"x2": (62.0,)},
        ("cohort.embedding_dim=64 (published: 128)", tau, epochs): both,
    }


def test_runs_that_are_left_out_are_counted_by_reason(tmp_path):
    write(tmp_path, recipes.cifar(), [90.0], "stopped")
    write(tmp_path, recipes.cifar(), [90.0], "failed")
    write(tmp_path, recipes.cifar(), [90.0], split="validation")
    write(tmp_path, recipes.cifar(), [90.0], **{"cohort.size": 3})
    write(tmp_path, recipes.imagenet(), [90.0])
    write(tmp_path, recipes.cifar(), [70.0])
    write(tmp_path, recipes.cifar(), [71.0])
    found = compare(CIFAR, outcomes(tmp_path) + outcomes(tmp_path))
    assert found.reproduced["resnet32", "x2"].values == (71.0,), "the later run of a seed"
    assert dict(found.left_out) == {
        "not finished": 2,
        "never scored on the test images": 1,
        "of a cohort or losses without a column": 1,
        "of another method": 1,
        "replaced by a later run of the same seed": 1,
    }
    assert "runs left out: 2 not finished; 1 never scored on the test images; 1 of " in " ".join(shown(found).split())


def test_figures_without_a_spread_and_networks_without_a_figure(tmp_path):
    write(tmp_path, recipes.imagenet(), [70.0])
    write(tmp_path, recipes.imagenet(), [75.0], **{"cohort.networks": "resnet50"})
    text = shown(compared(tmp_path, IMAGENET))
    assert lines_of(text, "resnet18") == [
        ["ours", "–", "70.00 (1)", "–", "–"],
        ["published", "69.76", "70.32", "70.77", "70.82"],
        ["difference", "–", "-0.32", "–", "–"],
    ]
    assert lines_of(text, "resnet50")[:2] == [["ours", "–", "75.00 (1)", "–", "–"], ["published", "–", "–", "–", "–"]]
    assert "not verified" in text
    assert "resnet34" not in shown(compared(tmp_path, IMAGENET), ["resnet18"])


def test_the_table_fits_a_terminal_of_a_hundred_columns(tmp_path):
    for seed in range(3):
        for column in FIELDS.values():
            write(
                tmp_path, recipes.cifar(), [70.0 + seed], seed=seed, **column, **{"cohort.networks": "shufflenetv2_1x"}
            )
    text = shown(compared(tmp_path), width=100)
    ours = ["ours", *["71.00 ± 1.00 (3)"] * 4]
    assert lines_of(text, "shufflenetv2_1x")[0] == ours
    narrow = shown(compared(tmp_path), width=80)
    assert "…" not in narrow
    assert narrow.count("(3)") == 4


def test_the_runs_of_several_folders_are_compared_together(tmp_path):
    write(tmp_path / "a", recipes.cifar(), [70.0])
    write(tmp_path / "b", recipes.cifar(), [72.0], seed=1)
    found = compare_results(CIFAR, [tmp_path / "a", tmp_path / "b"])
    assert sorted(found.reproduced["resnet32", "x2"].values) == [70.0, 72.0]
    (tmp_path / "c" / "runs").mkdir(parents=True)
    with pytest.raises(StoreError, match="a table needs runs, but .*c holds none yet"):
        compare_results(CIFAR, [tmp_path / "a", tmp_path / "c"])
