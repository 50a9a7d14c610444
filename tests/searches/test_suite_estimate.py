"""The estimate of a suite."""

import io

import pytest
import yaml
from rich.console import Console

from mcl_ray.cli.sweep_estimate import print_estimate
from mcl_ray.config.environment import Environment
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.training.estimate import estimate_run
from searches.spec import suite_registry
from searches.spec.suite import SuiteSpec
from searches.suite_estimate import estimate_rows, estimate_suite

SMALL = suite_registry.digits().with_fields(
    {"rows": ["*_baseline", "*_x2", "*_x4"], "run.schedule.epochs": 5, "repeats": 2}
)


def test_a_row_costs_what_its_runs_do():
    rows = estimate_rows(SMALL, Environment())
    assert list(rows) == list(SMALL.rows)
    four = rows["resnet8_x4"]
    alone = estimate_run(SMALL.trial_run({"row": "resnet8_x4"}), Environment())
    assert alone.steps == 5 * (1437 // 40)
    assert four.steps == 2 * alone.steps
    assert four.multiply_adds == 3 * 2 * alone.steps * 40 * alone.multiply_adds
    assert four.disk_bytes == 2 * alone.disk_bytes
    assert rows["resnet8_baseline"].estimate is rows["resnet8_x2"].estimate, (
        "losses cost nothing that an estimate counts"
    )
    assert rows["resnet8_x2"].estimate.parameters < four.estimate.parameters


@pytest.mark.slow
def test_the_suite_that_follows_is_estimated_too_and_the_output_is_a_file_on_a_narrow_terminal():
    asked = suite_registry.load("moco")
    console = Console(width=110, record=True, file=io.StringIO(), markup=False)
    print_estimate(
        estimate_suite(asked.with_fields({"rows": ["resnet18_x2"]}), ExecutionOptions()), ExecutionOptions(), console
    )
    reported = console.export_text().split("# row ")[0]
    assert SuiteSpec.model_validate(yaml.safe_load(reported)).then == asked.then
    console = Console(width=200, record=True, file=io.StringIO(), markup=False)
    print_estimate(estimate_suite(asked, ExecutionOptions()), ExecutionOptions(), console)
    first, second = console.export_text().split("# then moco_lincls, by the networks of each run")
    assert "estimated as 4 times those of the forward passes" in first, "of queries, of keys, and back"
    assert "estimated as those of the forward passes" in second
    assert "of 100 epochs" in second


def test_the_output_is_a_suite_file_with_rows_runs_steps_multiply_adds_and_disk_in_its_comments():
    console = Console(width=200, record=True, file=io.StringIO(), markup=False)
    print_estimate(estimate_suite(SMALL, ExecutionOptions()), ExecutionOptions(), console)
    reported = console.export_text()
    assert SuiteSpec.model_validate(yaml.safe_load(reported)) == SMALL
    facts = dict(line[2:].split(None, 1) for line in reported.splitlines() if line.startswith("# "))
    rows = estimate_rows(SMALL, Environment())
    assert facts["rows"].startswith("3, of 5 epochs")
    assert facts["runs"].startswith("6: 3 rows × 2 (seed 0, 1)")
    assert facts["steps"].split()[0] == f"{sum(row.steps for row in rows.values()):,}" == "1,050"
    assert facts["multiply-adds"].startswith(
        f"{sum(row.multiply_adds for row in rows.values()):.2e} of training, estim"
    )
    assert facts["disk"].startswith(f"{sum(row.disk_bytes for row in rows.values()) / 1e6:,.1f} MB of checkpoints")
    assert facts["resnet8_x4"].split()[:3] == ["350", f"{rows['resnet8_x4'].estimate.parameters:,}", "2,153,984"]
