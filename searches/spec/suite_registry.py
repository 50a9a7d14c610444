"""Suites known by name: every row of a published table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mcl_ray.analysis.published import CIFAR, IMAGENET, MOCO, Column
from mcl_ray.config import recipes
from mcl_ray.config.overrides import validate
from mcl_ray.config.registry import Registry
from mcl_ray.config.spec import RunSpec
from searches.spec.space import Value
from searches.spec.suite import SUITE_VERSION, SuiteSpec

Columns = Mapping[Column, Mapping[str, Value]]
COLUMNS: Columns = {
    "baseline": recipes.NO_MUTUAL_LEARNING,
    "x2": {},
    "x4": {"cohort.size": 4},
    "x4_kd": {"cohort.size": 4, "losses.logit_distillation": "reference"},
}
"""Fields in which a column's runs differ from a cohort of two."""
WITHOUT_LABELS: Columns = {"baseline": recipes.NO_MUTUAL_LEARNING | {"losses.alpha": 1.0}, "x2": {}}
"""Fields of the columns of encoders, whose baseline keeps the contrast within each peer."""


def cifar() -> SuiteSpec:
    """Train every published figure on CIFAR-100: ten networks, 31 rows of 300 epochs, three seeds each."""
    return _suite("cifar", recipes.cifar(), _rows(CIFAR.figures), table="cifar", repeats=3)


def imagenet() -> SuiteSpec:
    """Train every published figure on ImageNet: two networks, seven rows of 90 epochs, one seed each."""
    return _suite("imagenet", recipes.imagenet(), _rows(IMAGENET.figures), table="imagenet", repeats=1)


def moco() -> SuiteSpec:
    """Train both published rows without labels: 200 epochs of ImageNet, 100 of linear classification, three seeds."""
    rows = _rows(MOCO.figures, WITHOUT_LABELS)
    return _suite("moco", recipes.moco(), rows, table="moco", repeats=3, then=recipes.lincls())


def digits() -> SuiteSpec:
    """Train the columns of the CIFAR-100 table for resnet8 on scikit-learn's digits: minutes on two CPU cores."""
    return _suite("digits", recipes.digits(), _rows({"resnet8": COLUMNS}), table="cifar", repeats=3)


Rows = Mapping[str, Mapping[str, Value]]


def _rows(figures: Mapping[str, Mapping[Column, object]], columns: Columns = COLUMNS) -> Rows:
    return {
        f"{network}_{column}": {"cohort.networks": network, **columns[column]}
        for network, row in figures.items()
        for column in row
    }


def _suite(name: str, run: RunSpec, rows: Rows, *, table: str, repeats: int, then: RunSpec | None = None) -> SuiteSpec:
    fields = {"name": name, "run": run, "rows": rows, "table": table, "repeats": repeats, "then": then}
    return validate(SuiteSpec, fields)


Suite = Callable[[], SuiteSpec]
SUITES: Registry[Suite] = Registry("suite", {suite.__name__: suite for suite in (cifar, imagenet, moco, digits)})


def load(name_or_file: str) -> SuiteSpec:
    """Return the suite of this name, or the suite file at this path.

    Raises:
        SpecError: neither exists, or the file breaks a rule.
    """
    return recipes.load_named("suite", SUITES, SuiteSpec, SUITE_VERSION, name_or_file)
