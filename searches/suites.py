"""The suites known by name: every row of a published table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mcl_ray import recipes
from mcl_ray.overrides import validate
from mcl_ray.results.published import CIFAR, IMAGENET, Column
from mcl_ray.spec import RunSpec
from searches.space import Value
from searches.suite import SUITE_VERSION, SuiteSpec

COLUMNS: Mapping[Column, Mapping[str, Value]] = {
    "baseline": recipes.NO_MUTUAL_LEARNING,
    "x2": {},
    "x4": {"cohort.size": 4},
    "x4_kd": {"cohort.size": 4, "losses.logit_distillation": "reference"},
}
"""In what a column's runs differ from a cohort of two."""


def cifar() -> SuiteSpec:
    """Every published figure on CIFAR-100: ten networks, 31 rows of 300 epochs, three seeds each."""
    return _suite("cifar", recipes.cifar(), CIFAR.figures, table="cifar", repeats=3)


def imagenet() -> SuiteSpec:
    """Every published figure on ImageNet: two networks, seven rows of 90 epochs, one seed each."""
    return _suite("imagenet", recipes.imagenet(), IMAGENET.figures, table="imagenet", repeats=1)


def digits() -> SuiteSpec:
    """The columns of the CIFAR-100 table for resnet8 on scikit-learn's digits: minutes on two CPU cores."""
    return _suite("digits", recipes.digits(), {"resnet8": COLUMNS}, table="cifar", repeats=3)


def _suite(
    name: str, run: RunSpec, figures: Mapping[str, Mapping[Column, object]], *, table: str, repeats: int
) -> SuiteSpec:
    rows = {
        f"{network}_{column}": {"cohort.networks": network, **COLUMNS[column]}
        for network, row in figures.items()
        for column in row
    }
    return validate(SuiteSpec, {"name": name, "run": run, "rows": rows, "table": table, "repeats": repeats})


Suite = Callable[[], SuiteSpec]
SUITES: dict[str, Suite] = {suite.__name__: suite for suite in (cifar, imagenet, digits)}


def load(name_or_file: str) -> SuiteSpec:
    """The suite of this name, or the suite file at this path.

    Raises:
        SpecError: neither exists, or the file breaks a rule.
    """
    return recipes.load_named("suite", SUITES, SuiteSpec, SUITE_VERSION, name_or_file)
