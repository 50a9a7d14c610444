"""Labels of metrics, members, losses, costs and parameters, and formatting of values.

Tables and figures share them, so that a quantity has one name everywhere. Nothing is drawn here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mcl_ray.analysis.ranking import Ranked
from mcl_ray.results.queries import Objective

NO_VALUE = "–"
MAX_TEXT_LENGTH = 80
METRIC_LABELS = {
    "top1": "Top-1 accuracy",
    "top5": "Top-5 accuracy",
    "knn_top1": "Top-1 kNN accuracy",
    "knn_top5": "Top-5 kNN accuracy",
}
MEMBER_LABELS = {"mean": "mean of peers", "best": "best peer", "ensemble": "ensemble", "cohort": "cohort"}
LOSS_LABELS = {
    "loss": "Total (weighted)",
    "cross_entropy": "Cross-entropy",
    "vcl": "VCL (alpha)",
    "icl": "ICL (beta)",
    "soft_vcl": "Soft-VCL (gamma)",
    "soft_icl": "Soft-ICL (lam)",
    "logit_distillation": "Logit distillation",
}
COST_LABELS = {
    "parameters": "Parameters of the cohort",
    "multiply_adds": "Multiply-adds per image, cohort",
    "training_time_s": "Training time of a run",
}
SHORT_COST_LABELS = {"parameters": "params", "multiply_adds": "mult-adds", "training_time_s": "training time"}
AMBIGUOUS_NAMES = {"size", "kind", "source", "test", "factor"}
"""Last parts of field names that need their section beside them."""


@dataclass(frozen=True)
class Unit:
    """A unit in which a cost is shown."""

    size: float
    """Number of base units in it."""
    symbol: str
    name: str


COUNT_UNITS = (Unit(1e9, "G", "billions"), Unit(1e6, "M", "millions"), Unit(1e3, "k", "thousands"), Unit(1.0, "", ""))
TIME_UNITS = (Unit(3600.0, "h", "h"), Unit(60.0, "min", "min"), Unit(1.0, "s", "s"))


def objective_label(objective: Objective) -> str:
    """Return the label of an axis: `Top-1 accuracy, validation, mean of peers (%)`."""
    member = MEMBER_LABELS.get(objective.member, objective.member)
    unit = f" ({objective.unit})" if objective.unit else ""
    return f"{METRIC_LABELS.get(objective.metric, objective.metric)}, {objective.split}, {member}{unit}"


def unit_of(cost: str, values: Iterable[float]) -> Unit:
    """Return the unit in which the largest of these values is easy to read."""
    largest = max(values, default=0.0)
    units, minimum = (TIME_UNITS, 2.0) if cost == "training_time_s" else (COUNT_UNITS, 1.0)
    return next((unit for unit in units if largest >= minimum * unit.size), units[-1])


def cost_header(cost: str, unit: Unit) -> str:
    """Return the header of a column: `params, M`."""
    return f"{SHORT_COST_LABELS[cost]}, {unit.symbol}" if unit.symbol else SHORT_COST_LABELS[cost]


def cost_label(cost: str, unit: Unit) -> str:
    """Return the label of an axis: `Parameters of the cohort (millions)`."""
    return f"{COST_LABELS[cost]} ({unit.name})" if unit.name else COST_LABELS[cost]


def parameters_of(rows: Sequence[Ranked]) -> list[str]:
    """Return every searched parameter, in the order of first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row.searched))


def short_names(parameters: Sequence[str]) -> dict[str, str]:
    """Return field → short name: its last part, with its section where the last part is ambiguous.

    `losses.alpha` becomes `alpha`, `cohort.size` becomes `cohort size`.
    """
    last = [name.rpartition(".")[2] for name in parameters]
    return {
        name: name.replace(".", " ") if end in AMBIGUOUS_NAMES or last.count(end) > 1 else end
        for name, end in zip(parameters, last, strict=True)
    }


def caption(row: Ranked) -> str:
    """Return a configuration in one line: `alpha=0.1, cohort size=4`."""
    names = short_names(list(row.searched))
    return ", ".join(f"{names[name]}={setting(value)}" for name, value in row.searched.items())


def setting(value: object) -> str:
    """Return the value of a parameter, short enough for a column or a tick."""
    if value is None:
        return NO_VALUE
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(setting, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def duration(seconds: float) -> str:
    """Return a duration as text: `5 d 03 h`, `1 h 02 min`, `3 min 20 s`, `12.3 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 72 else f"{hours // 24:,} d {hours % 24:02d} h"


def shortened(text: str, max_length: int = MAX_TEXT_LENGTH) -> str:
    """Return a text as one line of at most `max_length` characters."""
    line = " ".join(text.split())
    return line if len(line) <= max_length else line[: max_length - 1] + "…"
