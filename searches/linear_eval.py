"""The suite that follows one without labels: linear classification on the networks that its rows trained.

It is a sweep of its own. Each of its runs freezes the networks that the run of the same row and seed has trained.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from mcl_ray.config.overrides import replace
from mcl_ray.errors import CheckpointError, TrainingError
from mcl_ray.results.remote import pull
from mcl_ray.results.store import is_finished, read_sweeps
from searches.spec.stored_spec import parse_stored_suite
from searches.spec.suite import ROW, Foundation, Pretrained, SuiteSpec
from searches.trial_history import KnownTrial, read_trials

LONGEST_NAME = 40


def follower(suite: SuiteSpec, folder: Path) -> SuiteSpec:
    """Return the suite that follows the one that was run in `folder`.

    A row is left out unless all its seeds have finished and have a checkpoint.

    Raises:
        TrainingError: no row is left.
    """
    pull.fetch(folder, checkpoints=True)
    trained = {str(trial.point[ROW]): _pretrained(suite, trial, folder) for trial in read_trials(folder, suite)}
    runs = {row: trained[row] for row in suite.rows if trained.get(row)}
    if not runs:
        raise TrainingError(
            f"no row of {pull.display_path(folder)} has all its runs finished, with checkpoints: nothing can follow"
        )
    return _built_on(suite, Foundation(sweep=folder.name, runs=runs))


def _pretrained(suite: SuiteSpec, trial: KnownTrial, folder: Path) -> tuple[Pretrained, ...]:
    """Return the runs of a row, one for each seed; none unless all of them have finished with a checkpoint."""
    from mcl_ray.training.backbone import find_backbone

    folders = [folder / "runs" / run_id for run_id in trial.run_ids]
    if len(folders) < suite.repeats or not all(map(is_finished, folders)):
        return ()
    try:
        checksums = {found.pretraining: found.checksum for found in map(find_backbone, folders)}
    except CheckpointError:
        return ()
    # Matched by spec: folders are sorted by name, in which the eleventh comes before the third.
    return tuple(Pretrained(run=run, backbone=checksums[run]) for run in suite.trial_runs(trial.point))


def check_foundation(suite: SuiteSpec, results: Path) -> None:
    """Check the networks that a suite freezes, before anything is trained.

    Raises:
        CheckpointError: those of a row are missing or have changed.
    """
    if suite.built_on is None:
        return
    from mcl_ray.training.backbone import checkpoint_at, find_backbone

    folder = results / "sweeps" / suite.built_on.sweep
    for row in suite.rows:
        for pretrained in suite.built_on.runs[row][: suite.repeats]:
            found = find_backbone(checkpoint_at(folder, pretrained.run))
            if found.checksum != pretrained.backbone:
                raise CheckpointError(
                    f"row {row} is built on networks of checksum {pretrained.backbone}, but {found.file} has "
                    f"{found.checksum}"
                )


def planned_follower(suite: SuiteSpec) -> SuiteSpec:
    """Return the suite that is to follow one that has not been run."""
    rows = {row: suite.trial_runs({ROW: row}) for row in suite.rows}
    runs = {row: tuple(Pretrained(run=run, backbone=None) for run in of_seeds) for row, of_seeds in rows.items()}
    return _built_on(suite, Foundation(sweep=suite.name, runs=runs))


def started(following: SuiteSpec, results: Path) -> tuple[list[str], SuiteSpec | None]:
    """Return the sweeps in `results` that have rows of this suite, oldest first, and the suite with its other rows."""
    pull.fetch(results / "sweeps", only=pull.is_of_sweep)
    records = sorted(read_sweeps(results).to_pylist(), key=lambda row: row["started_at"])
    suites = {row["sweep_id"]: parse_stored_suite(row["spec"]) for row in records if row["name"] == following.name}
    left, ids = set(following.rows), []
    for sweep_id, suite in suites.items():
        if suite is None or suite.built_on is None:
            continue
        same = {row for row in left if row in suite.rows and _only(following, {row}) == _only(suite, {row})}
        left -= same
        ids += [sweep_id] if same else []
    return ids, _only(following, left) if left else None


def started_on(folder: Path) -> list[str]:
    """Return the ids of the sweeps that are built on the one in `folder`."""
    results = folder.parents[1]
    pull.fetch(results / "sweeps", only=pull.is_of_sweep)
    built_on = {row["sweep_id"]: json.loads(row["spec"]).get("built_on") for row in read_sweeps(results).to_pylist()}
    return [sweep_id for sweep_id, first in built_on.items() if first and first["sweep"] == folder.name]


def _only(suite: SuiteSpec, rows: Collection[str]) -> SuiteSpec:
    """Return the suite with some of its rows."""
    foundation = suite.built_on
    assert foundation is not None, "it follows another"
    runs = {row: runs for row, runs in foundation.runs.items() if row in rows}
    kept = {row: own for row, own in suite.rows.items() if row in rows}
    return suite.model_copy(update={"rows": kept, "built_on": Foundation(sweep=foundation.sweep, runs=runs)})


def _built_on(suite: SuiteSpec, foundation: Foundation) -> SuiteSpec:
    assert suite.then is not None, "nothing follows"
    return SuiteSpec(
        name=f"{suite.name}_{suite.then.recipe}"[:LONGEST_NAME],
        run=replace(suite.then, {"plugins": suite.plugins}),
        rows={row: {} for row in suite.rows if row in foundation.runs},
        table=suite.table,
        repeats=suite.repeats,
        built_on=foundation,
    )
