import pytest

from mcl_ray.config.overrides import replace
from mcl_ray.errors import SpecError
from searches.preflight import check_comparable
from tests.support.known_trials import sweep


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run.optimizer.lr", 0.01),
        ("run.batch.size", 20),
        ("run.cohort.networks", "resnet20"),
        ("run.losses.tau", 0.5),
        ("run.schedule.epochs", 4),
        ("run.data.validation_fraction", 0.1),
        ("objective", "validation/top1/best"),
    ],
)
def test_a_warm_start_needs_the_same_run_outside_both_spaces(field, value):
    with pytest.raises(SpecError, match=rf"earlier-1 has other values of {field}$"):
        check_comparable(sweep(), replace(sweep(), {field: value}), "earlier-1")


@pytest.mark.parametrize("field", ["run.losses.alpha", "run.cohort.size", "run.seed", "run.recipe"])
def test_fields_that_one_of_them_searches_and_labels_may_differ(field):
    value = {"run.losses.alpha": 0.3, "run.cohort.size": 3, "run.seed": 5, "run.recipe": "other"}[field]
    check_comparable(sweep(), replace(sweep(), {field: value}), "earlier-1")


def test_a_field_that_only_the_earlier_one_searches_may_differ():
    lr = {"optimizer.lr": {"kind": "float", "low": 0.01, "high": 0.2}}
    earlier = replace(sweep(), {"run.optimizer.lr": 0.05, "space": sweep().model_dump()["space"] | lr})
    check_comparable(sweep(), earlier, "earlier-1")
