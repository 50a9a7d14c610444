"""What a suite costs, before it is run."""

import io

import yaml
from rich.console import Console

from mcl_ray.config.environment import Environment
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.training.estimate import estimate_run
from searches.spec import suite_registry
from searches.spec.suite import SuiteSpec
from searches.suite_dry_run import plan_suite, print_suite_plan

SMALL = suite_registry.digits().with_fields(
    {"rows": ["*_baseline", "*_x2", "*_x4"], "run.schedule.epochs": 5, "repeats": 2}
)


def test_a_row_costs_what_its_runs_do():
    rows = plan_suite(SMALL, Environment())
    assert list(rows) == list(SMALL.rows)
    four = rows["resnet8_x4"]
    alone = estimate_run(SMALL.trial_run({"row": "resnet8_x4"}), Environment())
    assert alone.steps == 5 * (1437 // 40)
    assert four.steps == 2 * alone.steps
    assert four.multiply_adds == 3 * 2 * alone.steps * 40 * alone.multiply_adds
    assert four.disk_bytes == 2 * alone.disk_bytes
    assert rows["resnet8_baseline"].plan is rows["resnet8_x2"].plan, "losses cost nothing that a plan counts"
    assert rows["resnet8_x2"].plan.parameters < four.plan.parameters


def test_what_follows_is_planned_too_and_however_long_a_fact_is_the_whole_stays_a_file():
    asked = suite_registry.load("moco")
    console = Console(width=110, record=True, file=io.StringIO(), markup=False)
    print_suite_plan(asked.with_fields({"rows": ["resnet18_x2"]}), ExecutionOptions(), console)
    told = console.export_text().split("# row ")[0]
    assert SuiteSpec.model_validate(yaml.safe_load(told)).then == asked.then
    console = Console(width=200, record=True, file=io.StringIO(), markup=False)
    print_suite_plan(asked, ExecutionOptions(), console)
    first, second = console.export_text().split("# then moco_lincls, by the networks of each run")
    assert "estimated as 4 times those of the forward passes" in first, "of queries, of keys, and back"
    assert "estimated as those of the forward passes" in second
    assert "of 100 epochs" in second


def test_the_plan_is_a_suite_file_with_rows_runs_steps_arithmetic_and_disk_in_its_comments():
    console = Console(width=200, record=True, file=io.StringIO(), markup=False)
    print_suite_plan(SMALL, ExecutionOptions(), console)
    told = console.export_text()
    assert SuiteSpec.model_validate(yaml.safe_load(told)) == SMALL
    facts = dict(line[2:].split(None, 1) for line in told.splitlines() if line.startswith("# "))
    rows = plan_suite(SMALL, Environment())
    assert facts["rows"].startswith("3, of 5 epochs")
    assert facts["runs"].startswith("6: 3 rows × 2 (seed 0, 1)")
    assert facts["steps"].split()[0] == f"{sum(row.steps for row in rows.values()):,}" == "1,050"
    assert facts["multiply-adds"].startswith(
        f"{sum(row.multiply_adds for row in rows.values()):.2e} of training, estim"
    )
    assert facts["disk"].startswith(f"{sum(row.disk_bytes for row in rows.values()) / 1e6:,.1f} MB of checkpoints")
    assert facts["resnet8_x4"].split()[:3] == ["350", f"{rows['resnet8_x4'].plan.parameters:,}", "2,153,984"]
