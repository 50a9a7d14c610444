"""The best configuration against the run's own values, in one line."""

from __future__ import annotations

from mcl_ray.analysis.improvement import Improvement, NoImprovement
from mcl_ray.analysis.ranking import Ranked
from mcl_ray.results.queries import Objective

OWN = "the published point"
"""Name of the run's own values, which in a predefined search are those of the publication."""


def improvement_line(found: Improvement | NoImprovement, objective: str) -> str:
    """Return in one line whether the best configuration is better than the run's own values."""
    if isinstance(found, NoImprovement):
        return f"not compared with {OWN}: {found.reason}"
    goal = Objective.parse(objective)
    if found.is_own:
        return f"{OWN} is the best configuration: {figure_text(found.own, goal)}"
    both = f"{figure_text(found.best, goal)}, {OWN} {figure_text(found.own, goal)}"
    if found.difference is None:
        return f"best {both}; they have no seed in common"
    unit = "points" if goal.unit else ""
    paired = f"difference {found.difference:+.2f} {unit}".strip()
    if found.interval is not None:
        low, high = found.interval
        paired += f", 95 % confidence interval {low:+.2f} to {high:+.2f}"
    paired += f", {len(found.differences)} paired seed{'s' if len(found.differences) > 1 else ''}"
    return f"{_judgement(found)}: best {both}; {paired}"


def figure_text(row: Ranked, goal: Objective) -> str:
    """Return a figure with its spread and its number of seeds: `98.51 ± 0.20 % (n=3)`."""
    value = "–" if row.value is None else goal.format(row.value)
    spread = "" if row.std is None else f" ± {goal.format(row.std)}"
    return f"{value}{spread} {goal.unit}".rstrip() + f" (n={row.n})"


def _judgement(found: Improvement) -> str:
    if found.standard_error is None:
        return f"a tie with {OWN}, as one seed is no evidence"
    if found.is_tie:
        return f"a tie with {OWN}, within one standard error ({found.standard_error:.2f})"
    if found.is_behind:
        return f"behind {OWN} in the mean by more than one standard error ({found.standard_error:.2f})"
    return f"better than {OWN} by more than one standard error ({found.standard_error:.2f})"
