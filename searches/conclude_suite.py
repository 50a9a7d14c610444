"""The end of a suite: its rows in the published table, and the report."""

from __future__ import annotations

import dataclasses

from mcl_ray.analysis.comparison import compare, outcomes
from mcl_ray.analysis.conclusion import SweepConclusion
from mcl_ray.analysis.published import TABLES
from mcl_ray.errors import TrainingError
from mcl_ray.results.remote.pull import display_path
from mcl_ray.results.store import SweepWriter
from searches.conclude import finish
from searches.spec.suite import SuiteSpec


def conclude_suite(suite: SuiteSpec, ranked: SweepConclusion, writer: SweepWriter) -> SweepConclusion:
    """Compare the rows with the published table, unless another suite follows, and write the report.

    Raises:
        TrainingError: no row has a score.
    """
    if not any(row.score is not None for row in ranked.ranking):
        reasons = "; ".join(ranked.reasons)
        raise TrainingError(f"no row of {display_path(writer.folder)} has a figure: {reasons}")
    if suite.table is not None and suite.then is None:
        comparison = compare(TABLES[suite.table], outcomes(writer.folder))
        ranked = dataclasses.replace(ranked, comparison=comparison, networks=suite.networks)
    return finish(ranked, writer)
