"""A report in memory: PNG figures and one HTML page, made of parts, and written into a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure

from mcl_ray.analysis.importance import Importances
from mcl_ray.config.spec import RunSpec
from mcl_ray.reports import page, style
from mcl_ray.reports.page import Section
from mcl_ray.results.atomic_io import ensure_writable, write_atomically
from mcl_ray.results.reader import to_yaml

PAGE_FILE = "report.html"
IMPORTANCES_FILE = "importances.json"
FIGURE_NAMES = (
    "learning_curves",
    "trial_curves",
    "history",
    "parallel_coordinates",
    "importances",
    "accuracy_by_parameter",
    "pareto",
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A section of the page, and the PNG figure that shows the same."""

    section: Section
    figures: Mapping[str, Figure] = field(default_factory=dict)
    """Name, one of `FIGURE_NAMES` → figure; empty for a section without a PNG figure."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The report of a run or of a sweep."""

    title: str
    facts: Mapping[str, str]
    """Name → text, listed at the top of the page."""
    parts: Sequence[Part]
    importances: Importances | None = None
    """Importances of the searched fields, which are recorded beside the page: computing them needs Optuna."""

    def write(self, folder: Path) -> list[Path]:
        """Write the figures, the importances and the page into a folder, and return the files, the page last.

        Figures of an earlier report that this one lacks are removed, as they show results other than those of the page.

        Raises:
            StoreError: the folder cannot be written.
        """
        ensure_writable(folder)
        figures = {folder / f"{name}.png": figure for part in self.parts for name, figure in part.figures.items()}
        for path, figure in figures.items():
            style.save(figure, path)
        content = page.render(self.title, self.facts, [part.section for part in self.parts])
        write_atomically(folder / PAGE_FILE, content.encode())
        data = [] if self.importances is None else [folder / IMPORTANCES_FILE]
        if self.importances is not None:
            shares = {"values": dict(self.importances.values), "reason": self.importances.reason}
            write_atomically(folder / IMPORTANCES_FILE, json.dumps(shares, indent=1).encode())
        known = {folder / IMPORTANCES_FILE, *(folder / f"{name}.png" for name in FIGURE_NAMES)}
        for stale in known - figures.keys() - set(data):
            stale.unlink(missing_ok=True)
        return [*figures, *data, folder / PAGE_FILE]


def spec_part(title: str, spec_json: str) -> Part:
    """Return the section of a stored spec, as YAML with the fields in the order of `RunSpec`."""
    code = to_yaml(RunSpec.model_validate_json(spec_json).model_dump(mode="json"))
    return Part(section=Section(title=title, code=code))
