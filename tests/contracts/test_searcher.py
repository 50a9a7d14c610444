"""The contract of a searcher: what the tuner, resuming and the ranking rely on, for every sampler.

For a sampler of one's own, derive a test class from `SearcherContract` whose fixture `sweep` returns a search with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from mcl_ray.config.overrides import replace, validate
from searches.spec import search_registry
from searches.spec.space import Point, contains
from searches.spec.sweep import SweepSpec
from searches.trial_history import KnownTrial
from searches.tune.converters import check_sampler
from searches.tune.optuna_searcher import OptunaSearcher
from tests.support.trial_events import info

SPACE = {
    "losses.alpha": {"kind": "float", "low": 0.0, "high": 1.0},
    "optimizer.lr": {"kind": "float", "low": 0.001, "high": 1.0, "log": True},
    "cohort.size": {"kind": "int", "low": 1, "high": 4},
    "losses.beta": {"kind": "float", "low": 0.1, "high": 0.9, "step": 0.2},
    "cohort.sharing": {"kind": "choice", "values": ["none", "stem"], "when": {"cohort.size": [3, 4]}},
}
"""Each kind of dimension, a condition, and a field without effect at one peer."""
WITHOUT_CONDITIONS = {"losses.beta": None, "cohort.sharing": None, "cohort.size": SPACE["cohort.size"] | {"low": 2}}
"""Changes to the space for `qmc`, which has a sequence of points, and thus the same points, for each set of fields."""
GRID = {
    "losses.alpha": {"kind": "choice", "values": [0.1, 0.2, 0.3]},
    "cohort.size": {"kind": "choice", "values": [1, 2, 3]},
}
TWO_OBJECTIVES = {"costs": ["parameters"], "scheduler.kind": "none"}
SAMPLERS: dict[str, dict[str, Any]] = {
    "tpe": {"sampler.startup_trials": 3},
    "gp": {"sampler.startup_trials": 3},
    "nsga2": {"sampler.population": 3} | TWO_OBJECTIVES,
    "qmc": {},
    "random": {},
    "grid": {"trials": None},
}
"""Kind of sampler → fields of a search with it; those that learn do so within the trials of a test."""
COUNT = 6
MORE = 3


def search(kind: str, **fields: Any) -> SweepSpec:
    """Return a search of `digits` with a sampler, over all kinds of dimensions."""
    space = {"grid": GRID, "qmc": SPACE | WITHOUT_CONDITIONS}.get(kind, SPACE)
    space = {path: dimension for path, dimension in space.items() if dimension is not None}
    tree = search_registry.digits().model_dump() | {"space": space, "trials": 20}
    return replace(validate(SweepSpec, tree), {"sampler.kind": kind} | SAMPLERS[kind] | fields)


def split(proposal: Mapping[str, Any]) -> tuple[str, Point]:
    """Return the id and the point of a proposal."""
    return proposal["trial"], {path: value for path, value in proposal.items() if path != "trial"}


class SearcherContract:
    """Tests of the searcher of `sweep`, a search with a sampler."""

    @pytest.fixture
    def sweep(self) -> SweepSpec:
        raise NotImplementedError

    @pytest.fixture
    def may_repeat(self) -> bool:
        """Return whether the sampler may propose a point that it proposed before."""
        return False

    @pytest.fixture
    def learns(self) -> bool:
        """Return whether proposals depend on the scores."""
        return True

    def searched(self, sweep: SweepSpec, folder: Path, known: Sequence[KnownTrial] = ()) -> OptunaSearcher:
        return OptunaSearcher(sweep, folder, known, [])

    def proposed(self, searcher: Searcher, count: int = COUNT, first: int = 0) -> list[tuple[str, Point]]:
        return [split(searcher.suggest(f"tune-{number}")) for number in range(first, first + count)]

    def known(self, sweep: SweepSpec, proposals: Sequence[tuple[str, Point]], *states: str) -> list[KnownTrial]:
        """Return the trials of proposals as the records have them, with the states of the first and `finished`."""
        return [
            KnownTrial(
                trial_id=trial_id,
                point=point,
                state=state,
                curve=() if state == "failed" else ((1, 50.0 + number), (2, 60.0 + number)),
                costs={} if state == "failed" else dict.fromkeys(sweep.scoring.costs, 1000.0 + number),
                run_ids=(f"sweep-{trial_id}-r0",),
            )
            for number, ((trial_id, point), state) in enumerate(
                zip(proposals, [*states, *["finished"] * (len(proposals) - len(states))], strict=True)
            )
        ]

    def test_it_can_serve_the_space(self, sweep):
        check_sampler(sweep)

    def test_it_proposes_points_of_the_space_under_ids_in_order(self, sweep, tmp_path):
        proposals = self.proposed(self.searched(sweep, tmp_path).searcher())
        assert [trial_id for trial_id, _ in proposals] == [f"{number:04d}" for number in range(COUNT)]
        assert all(contains(sweep.space, point) for _, point in proposals)

    def test_the_first_points_of_the_search_come_first(self, sweep, tmp_path):
        points = [point for _, point in self.proposed(self.searched(sweep, tmp_path).searcher())]
        first = list(sweep.first_points)[:COUNT]
        assert first
        assert points[: len(first)] == first

    def test_one_seed_gives_the_same_points(self, sweep, tmp_path):
        first, again = (self.proposed(self.searched(sweep, tmp_path).searcher()) for _ in range(2))
        assert again == first

    def after_results(self, sweep: SweepSpec, folder: Path, sign: int) -> list[tuple[str, Point]]:
        """Return what is proposed after some trials, of which one failed and each other scored better, or worse."""
        searcher = self.searched(sweep, folder).searcher()
        self.proposed(searcher)
        for number in range(COUNT):
            costs = dict.fromkeys(sweep.scoring.costs, 1000.0 - sign * number)
            result = {"epoch": 1, "score": 50.0 + sign * number, "training_iteration": 1} | costs
            searcher.on_trial_result(f"tune-{number}", result)
            end = {"epoch": 1, "failed": "NonFiniteLossError"} if number == 1 else result
            searcher.on_trial_complete(f"tune-{number}", end)
        return self.proposed(searcher, MORE, first=COUNT)

    def test_it_learns_from_results_and_takes_failures(self, sweep, learns, tmp_path):
        better, worse = (self.after_results(sweep, tmp_path, sign) for sign in (1, -1))
        for more in (better, worse):
            assert [trial_id for trial_id, _ in more] == [f"{number:04d}" for number in range(COUNT, COUNT + MORE)]
            assert all(contains(sweep.space, point) for _, point in more)
        assert (better != worse) == learns

    def test_a_resumed_sweep_continues_with_unfinished_trials_and_repeats_none(self, sweep, may_repeat, tmp_path):
        before = self.searched(sweep, tmp_path)
        proposals = self.proposed(before.searcher())
        before.on_trial_start(info(0))  # as the sweep does, which stores the sampler's state
        known = self.known(sweep, proposals, "finished", "failed", "unfinished")
        resumed, *more = self.proposed(self.searched(sweep, tmp_path, known).searcher(), 1 + MORE)
        assert resumed == proposals[2]
        assert [trial_id for trial_id, _ in more] == [f"{number:04d}" for number in range(COUNT, COUNT + MORE)]
        assert all(contains(sweep.space, point) for _, point in more)
        points = [point for _, point in [*proposals, *more]]
        assert may_repeat or all(points.count(point) == 1 for point in points)


class TestBuiltIn(SearcherContract):
    @pytest.fixture(params=SAMPLERS)
    def sweep(self, request):
        return search(request.param)

    @pytest.fixture
    def learns(self, sweep):
        return sweep.sampler.kind in ("tpe", "gp", "nsga2")

    @pytest.fixture
    def may_repeat(self, sweep):
        """A child of nsga2 may equal a parent."""
        return sweep.sampler.kind == "nsga2"


def test_a_grid_has_every_point_once(tmp_path):
    sweep = search("grid")
    searcher = OptunaSearcher(sweep, tmp_path, [], []).searcher()
    points = [split(searcher.suggest(f"tune-{number}"))[1] for number in range(sweep.trials)]
    assert len(points) == 9
    assert {tuple(sorted(point.items())) for point in points} == {
        (("cohort.size", size), ("losses.alpha", alpha)) for size in (1, 2, 3) for alpha in (0.1, 0.2, 0.3)
    }
