"""Findings of a campaign: what was lost, doubled, regressed, stuck or wrong, each finding in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import NamedTuple


@dataclass
class Findings:
    """Findings of a judge; a campaign aims at none."""

    lost: list[str] = field(default_factory=list)
    """Acknowledged or recorded, and not there, or not ended as it had to."""
    doubled: list[str] = field(default_factory=list)
    """Happened twice, and may happen once."""
    regressed: list[str] = field(default_factory=list)
    """Was final, or further on, and changed back."""
    stuck: list[str] = field(default_factory=list)
    """Did not end."""

    wrong: list[str] = field(default_factory=list)
    """Figures that differ where they must not, tracebacks, and exit codes that say nothing."""

    def add(self, other: Findings) -> None:
        """Add the findings of another judge."""
        for name in asdict(self):
            getattr(self, name).extend(getattr(other, name))

    @property
    def is_clean(self) -> bool:
        """True if there are no findings."""
        return not any(asdict(self).values())

    @property
    def figures(self) -> dict[str, object]:
        """Number of findings of each kind, and the findings if there are any."""
        details: dict[str, list[str]] = {name: words for name, words in asdict(self).items() if words}
        counts: dict[str, object] = {name: len(words) for name, words in asdict(self).items()}
        return counts | ({"details": details} if details else {})


class Campaign(NamedTuple):
    """Result of a campaign."""

    findings: Findings
    figures: dict[str, object]
