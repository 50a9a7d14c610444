"""The life of a job: a pure function from what is known of it to one action and one change.

`step` neither reads nor writes anything, so that a process may die after any line of its caller and another may run the
same step again. The rules are a table, read from the top: the first one that matches decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

from mcl_ray.jobs.states import LIVE, Desired, State

Backend = Literal[
    "unreachable", "absent", "foreign", "pending", "running", "succeeded", "stopped", "died", "fenced", "failed"
]
"""State of an attempt in Ray.

`absent`: no such job. `foreign`: a record that does not carry our metadata. `died`: FAILED by a signal or without an
exit code. `fenced`: FAILED with exit code 75, as another process owns the attempt. `failed`: FAILED with another
positive exit code.
"""
Outcome = Literal["none", "failed", "interrupted"]
"""The driver's record of its end; a success has a manifest instead."""

Action = Literal["submit", "stop", "bury"]
"""`bury` takes the claim of an attempt that no driver has; the change applies only if that succeeds."""
Effect = Literal["wait", "watch", "succeed", "fail", "cancel", "lose", "resume", "skip"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Facts about the current attempt, beside the row."""

    backend: Backend
    claimed: bool = False
    manifest: bool = False
    outcome: Outcome = "none"
    detail: str = ""
    """Reason for a person: the driver's own, or Ray's answer."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """At most one action, and the change to the row that follows it."""

    effect: Effect
    action: Action | None = None
    state: State | None = None
    """The new state; None keeps it."""
    next_attempt: bool = False
    lost: bool = False
    """True if the attempt counts as lost."""
    reason: str = ""


@dataclass(frozen=True)
class Rule:
    """A row of the table; an empty field matches everything."""

    effect: Effect
    action: Action | None = None
    manifest: bool | None = None
    claimed: bool | None = None
    desired: Desired | None = None
    outcome: Outcome | None = None
    backend: tuple[Backend, ...] = get_args(Backend)

    def matches(self, desired: Desired, evidence: Evidence) -> bool:
        """Return whether the rule applies."""
        wanted = (
            (self.manifest, evidence.manifest),
            (self.claimed, evidence.claimed),
            (self.desired, desired),
            (self.outcome, evidence.outcome),
        )
        return evidence.backend in self.backend and all(rule in (None, found) for rule, found in wanted)


ACTIVE: tuple[Backend, ...] = ("pending", "running")
RULES: tuple[Rule, ...] = (
    Rule("succeed", manifest=True),
    # No process owns the attempt: it has had no effect, and a driver that starts late will be fenced.
    Rule("watch", "stop", claimed=False, desired="cancelled", backend=ACTIVE),
    Rule("cancel", "bury", claimed=False, desired="cancelled"),
    Rule("wait", claimed=False, backend=("unreachable",)),
    Rule("watch", "submit", claimed=False, backend=("absent",)),
    Rule("watch", claimed=False, backend=ACTIVE),
    Rule("fail", "bury", claimed=False, backend=("failed",)),
    Rule("skip", "bury", claimed=False, backend=("foreign",)),
    Rule("lose", "bury", claimed=False),
    # A driver owns the attempt. Its own record of a failure counts even if Ray has lost the job.
    Rule("cancel", claimed=True, desired="cancelled", outcome="failed"),
    Rule("fail", claimed=True, outcome="failed"),
    Rule("wait", claimed=True, backend=("unreachable",)),
    Rule("watch", "stop", claimed=True, desired="cancelled", backend=ACTIVE),
    Rule("cancel", claimed=True, desired="cancelled"),
    Rule("watch", claimed=True, backend=ACTIVE),
    Rule("fail", claimed=True, backend=("failed",)),
    Rule("resume", claimed=True, outcome="interrupted"),
    Rule("lose", claimed=True),
)


def step(state: State, desired: Desired, lost: int, evidence: Evidence, *, max_lost: int = 3) -> Step:
    """Decide what to do about a live job.

    Args:
        state: Its state; a terminal one is a bug of the caller.
        desired: What its owner wants.
        lost: Attempts that were lost before.
        evidence: What is known of the current attempt.
        max_lost: Lost attempts that fail the job.
    """
    assert state in LIVE, f"a terminal state never changes, but got {state}"
    rule = next(rule for rule in RULES if rule.matches(desired, evidence))
    decided = partial(Step, effect=rule.effect, action=rule.action)
    why = evidence.detail or evidence.backend
    match rule.effect:
        case "wait":
            return decided(reason=f"the backend is unreachable: {why}")
        case "watch":
            return decided(state="running" if evidence.backend == "running" else "starting")
        case "succeed":
            return decided(state="succeeded")
        case "cancel":
            return decided(state="cancelled")
        case "fail":
            return decided(state="failed", reason=why)
        case "lose" if lost + 1 >= max_lost:
            return decided(state="failed", lost=True, reason=f"{lost + 1} attempts were lost, the last one: {why}")
        case "lose":
            return decided(state="queued", next_attempt=True, lost=True, reason=f"the attempt was lost: {why}")
        case "resume" | "skip":
            return decided(state="queued", next_attempt=True, reason=why)
