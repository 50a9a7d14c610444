"""The table of `api.state`: every input, and sequences of them against a model of Ray, drivers and crashes."""

from itertools import product
from typing import get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from api import state
from api.state import RULES, Backend, Evidence, Outcome, step
from mcl_ray.jobs.states import LIVE, TERMINAL, Desired

MAX_LOST = 3
ENDED = ("succeeded", "stopped", "died", "fenced", "failed")
INPUTS = [
    (current, desired, lost, Evidence(backend=backend, claimed=claimed, manifest=manifest, outcome=outcome))
    for current, desired, lost, backend, claimed, manifest, outcome in product(
        LIVE, get_args(Desired), range(MAX_LOST), get_args(Backend), (False, True), (False, True), get_args(Outcome)
    )
]
CASES = [(*given, step(*given, max_lost=MAX_LOST)) for given in INPUTS]


def test_the_inputs_are_all_there_are():
    assert len(CASES) == 3 * 2 * 3 * 10 * 2 * 2 * 3


@pytest.mark.parametrize("terminal", TERMINAL)
def test_a_terminal_state_is_never_stepped_on(terminal):
    with pytest.raises(AssertionError, match="never changes"):
        step(terminal, "run", 0, Evidence(backend="absent"))


def test_a_manifest_is_success_and_nothing_else_is():
    for _, _, _, evidence, done in CASES:
        assert (done.state == "succeeded") == evidence.manifest
        assert not (evidence.manifest and done.action)


def test_an_attempt_is_left_only_once_no_driver_can_start_on_it():
    """The next attempt, or an end that is not success, needs the claim: taken by a driver, or buried."""
    for _, _, _, evidence, done in CASES:
        if done.next_attempt or done.state in ("failed", "cancelled"):
            assert evidence.claimed or done.action == "bury"


def test_a_driver_that_may_still_run_is_left_alone():
    """A claimed attempt ends only by its driver's own word, or after Ray no longer runs it."""
    for _, _, _, evidence, done in CASES:
        may_run = evidence.claimed and evidence.backend in ("pending", "running", "unreachable")
        if may_run and not evidence.manifest and evidence.outcome != "failed":
            assert not done.next_attempt
            assert done.state in (None, "starting", "running")


def test_each_action_has_its_occasion():
    for _, desired, _, evidence, done in CASES:
        if done.action == "submit":
            assert (evidence.backend, evidence.claimed, desired) == ("absent", False, "run")
        elif done.action == "stop":
            assert desired == "cancelled"
            assert evidence.backend in ("pending", "running")
        elif done.action == "bury":
            assert not evidence.claimed
            assert evidence.backend not in ("pending", "running")
            assert desired == "cancelled" or evidence.backend not in ("absent", "unreachable")


def test_what_can_be_done_is_done():
    """Only an unreachable backend, or an active one that is wanted, leaves a job alone."""
    for _, desired, _, evidence, done in CASES:
        if done.state in TERMINAL or done.next_attempt or done.action:
            continue
        assert evidence.backend == "unreachable" or (evidence.backend in ("pending", "running") and desired == "run")
        assert not evidence.manifest


def test_cancelled_is_for_those_who_asked():
    for _, desired, _, evidence, done in CASES:
        if done.state == "cancelled":
            assert desired == "cancelled"
        if desired == "cancelled":
            assert not done.next_attempt
            assert done.action != "submit"
            ended = evidence.backend in (*ENDED, "absent", "foreign")
            if ended and not evidence.manifest:
                assert done.state == "cancelled"


def test_failures():
    for _, desired, lost, evidence, done in CASES:
        own = evidence.outcome == "failed" and evidence.claimed
        if done.state == "failed":
            assert desired == "run"
            assert own or evidence.backend == "failed" or (done.lost and lost + 1 == MAX_LOST)
            assert done.reason
        if evidence.backend == "failed" and desired == "run" and not evidence.manifest:
            assert done.state == "failed"
        if done.lost:
            assert evidence.backend not in ("failed", "unreachable", "pending", "running")


def test_an_unreachable_backend_says_so():
    for _, _, _, evidence, done in CASES:
        if done.effect == "wait":
            assert evidence.backend == "unreachable"
            assert "unreachable" in done.reason
            assert (done.state, done.action) == (None, None)


def test_an_interrupted_attempt_is_not_lost():
    for _, desired, _, evidence, done in CASES:
        if (evidence.claimed, evidence.manifest, evidence.outcome, desired) == (True, False, "interrupted", "run"):
            assert not done.lost or evidence.backend == "failed"
            if evidence.backend in ("stopped", "absent", "died"):
                assert done.next_attempt


@pytest.mark.parametrize("number", range(len(RULES)))
def test_every_rule_decides_something(number, monkeypatch):
    """No row of the table is dead: without it, some input has another answer, or none."""
    monkeypatch.setattr(state, "RULES", RULES[:number] + RULES[number + 1 :])

    def decided(given):
        try:
            return step(*given, max_lost=MAX_LOST)
        except StopIteration:
            return None

    assert any(decided(given[:4]) != given[4] for given in CASES)


class World(RuleBasedStateMachine):
    """One job, a Ray that forgets, drivers that come late, and a reconciler that crashes between two lines."""

    @initialize()
    def begin(self):
        self.row = {"state": "queued", "desired": "run", "attempt": 1, "lost": 0}
        self.submitted: dict[int, str] = {}
        self.waiting: list[int] = []  # submissions whose driver has not started yet, also those that Ray forgot
        self.running: set[int] = set()
        self.claims: dict[int, str] = {}
        self.manifests: set[int] = set()
        self.outcomes: dict[int, str] = {}
        self.is_reachable = True
        self.ended_as = None
        self.effective: list[int] = []

    def evidence(self):
        attempt = self.row["attempt"]
        return Evidence(
            backend=self.submitted.get(attempt, "absent") if self.is_reachable else "unreachable",
            claimed=attempt in self.claims,
            manifest=attempt in self.manifests,
            outcome=self.outcomes.get(attempt, "none"),
        )

    @rule(crashes=st.booleans())
    def reconcile(self, crashes):
        if self.row["state"] in TERMINAL:
            return
        attempt, seen = self.row["attempt"], dict(self.row)
        done = step(seen["state"], seen["desired"], seen["lost"], self.evidence(), max_lost=MAX_LOST)
        if done.action == "submit":
            self.submitted.setdefault(attempt, "pending")
            self.waiting.append(attempt)
        elif done.action == "stop" and self.submitted.get(attempt) in ("pending", "running"):
            self.submitted[attempt] = "stopped"
            self.running.discard(attempt)
        elif done.action == "bury":
            if attempt in self.claims:
                return
            self.claims[attempt] = "reconciler"
        if crashes:
            return
        self.row["state"] = done.state or self.row["state"]
        self.row["attempt"] += done.next_attempt
        self.row["lost"] += done.lost
        if self.row["state"] in TERMINAL:
            self.ended_as = self.row["state"]

    @rule(data=st.data())
    def driver_starts(self, data):
        if self.waiting:
            attempt = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
            if attempt in self.claims:
                if self.submitted.get(attempt) in ("pending", "running") and attempt not in self.running:
                    self.submitted[attempt] = "fenced"
                return
            self.claims[attempt] = "driver"
            self.running.add(attempt)
            self.effective.append(attempt)
            if attempt in self.submitted:
                self.submitted[attempt] = "running"

    @rule(end=st.sampled_from(("manifest", "failed", "interrupted", "killed")), data=st.data())
    def driver_ends(self, end, data):
        if self.running:
            attempt = data.draw(st.sampled_from(sorted(self.running)))
            self.running.discard(attempt)
            if end == "manifest":
                self.manifests.add(attempt)
            elif end != "killed":
                self.outcomes[attempt] = end
            if attempt in self.submitted:
                self.submitted[attempt] = {"manifest": "succeeded", "failed": "failed"}.get(end, "died")

    @rule(keeps_drivers=st.booleans())
    def head_dies(self, keeps_drivers):
        self.submitted.clear()
        if not keeps_drivers:
            self.running.clear()

    @rule(end=st.sampled_from(("died", "stopped", "foreign", "failed")))
    def ray_gives_up(self, end):
        """A submission that waits ends for Ray; its driver may come all the same."""
        pending = [attempt for attempt, backend in self.submitted.items() if backend == "pending"]
        if pending:
            self.submitted[pending[-1]] = end

    @rule(is_reachable=st.booleans())
    def network_changes(self, is_reachable):
        self.is_reachable = is_reachable

    @rule()
    def owner_cancels(self):
        if self.row["state"] not in TERMINAL:
            self.row["desired"] = "cancelled"

    @invariant()
    def a_terminal_state_stays(self):
        assert self.ended_as in (None, self.row["state"])

    @invariant()
    def each_attempt_has_one_owner_at_most(self):
        assert len(self.effective) == len(set(self.effective))

    @invariant()
    def attempts_that_were_left_are_owned(self):
        assert all(attempt in self.claims for attempt in range(1, self.row["attempt"]))
        if self.row["state"] in ("cancelled", "failed"):
            assert self.row["attempt"] in self.claims
        if self.row["state"] == "succeeded":
            assert self.row["attempt"] in self.manifests

    def teardown(self):
        """Once Ray answers and drivers finish, every job ends."""
        self.is_reachable = True
        for _ in range(40):
            if self.row["state"] in TERMINAL:
                return
            self.reconcile(False)
            while self.waiting:
                attempt = self.waiting.pop()
                if attempt not in self.claims:
                    self.claims[attempt] = "driver"
                    self.running.add(attempt)
                    self.submitted[attempt] = "running"
                elif attempt not in self.running and attempt in self.submitted:
                    self.submitted[attempt] = "fenced"
            for attempt in sorted(self.running):
                self.running.discard(attempt)
                self.manifests.add(attempt)
                if attempt in self.submitted:
                    self.submitted[attempt] = "succeeded"
        raise AssertionError(f"the job never ends: {self.row}, {self.evidence()}")


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
