"""Verdict of a campaign: what was lost, doubled, regressed or stuck, each finding in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field


@dataclass
class Verdict:
    """Findings of a judge; a campaign aims at none."""

    lost: list[str] = field(default_factory=list)
    """What was acknowledged or recorded, and is not there, or did not end as it had to."""
    doubled: list[str] = field(default_factory=list)
    """What happened twice and may happen once."""
    regressed: list[str] = field(default_factory=list)
    """What was final, or further on, and changed back."""
    stuck: list[str] = field(default_factory=list)
    """What did not end."""

    @property
    def is_clean(self) -> bool:
        """Whether there are no findings."""
        return not any(asdict(self).values())

    @property
    def figures(self) -> dict[str, object]:
        """Number of findings of each kind, and the findings if there are any."""
        findings: dict[str, list[str]] = {name: words for name, words in asdict(self).items() if words}
        counts: dict[str, object] = {name: len(words) for name, words in asdict(self).items()}
        return counts | ({"findings": findings} if findings else {})
