"""Findings of a campaign: what was lost, doubled, regressed or stuck, each finding in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field


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
