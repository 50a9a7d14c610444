"""The result of a sweep as data: its ranking, the test scores of the best configuration, and the files written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mcl_ray.analysis.comparison import Comparison
from mcl_ray.analysis.improvement import Improvement, NoImprovement
from mcl_ray.analysis.ranking import Ranked, best_of
from mcl_ray.config.scoring import PLAIN, Scoring
from mcl_ray.results.schema import EpochRow


@dataclass(frozen=True, kw_only=True)
class SweepConclusion:
    """Ranking, scores and files of a sweep that ended; of a suite, without a best configuration."""

    folder: Path
    """Folder of the sweep."""
    objective: str
    """Metric that was maximised, as split/metric/member."""
    scoring: Scoring = PLAIN
    ranking: Sequence[Ranked]
    """Configurations, best first."""
    improvement: Improvement | NoImprovement | None = None
    """Best configuration against the run's own values; None without a best one, or in a suite."""
    unreadable: Sequence[str] = ()
    """Names of the images that did not decode in any run and were skipped, sorted."""
    test_scores: Sequence[Sequence[EpochRow]] = ()
    """Scores on the test split, for each seed of the best configuration."""
    best_spec: Path | None = None
    """Spec file of the best configuration."""
    comparison: Comparison | None = None
    """Published table beside the rows of a suite."""
    networks: Sequence[str] = ()
    """Networks of the suite, to which the comparison is limited."""
    files: Sequence[Path] = ()
    """Files of the report."""

    @property
    def best(self) -> Ranked | None:
        """Best configuration; None if no configuration has a score."""
        return best_of(self.ranking)

    @property
    def reasons(self) -> list[str]:
        """Distinct reasons for missing scores, sorted."""
        return sorted({row.reason for row in self.ranking if row.reason})
