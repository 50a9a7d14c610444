"""The suite that follows one without labels: linear classification by the networks that its rows trained.

It is a sweep of its own. Each of its runs freezes what the run of the same row and seed has trained.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from mcl_ray.errors import CheckpointError, TrainingError
from mcl_ray.results.remote import pull
from mcl_ray.results.store import is_finished, read_sweeps
from searches.spec.stored_spec import parse_stored
from searches.spec.suite import ROW, Foundation, Pretrained, SuiteSpec
from searches.trial_history import KnownTrial, read_trials

LONGEST_NAME = 40


def follower(suite: SuiteSpec, folder: Path) -> SuiteSpec:
    """What follows the suite that was run in `folder`.

    A row is left out unless each of its seeds has come to its end and has a checkpoint.

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
    """The runs of a row, one a seed; none unless all of them can be built on."""
    from mcl_ray.training.backbone import find_backbone

    folders = [folder / "runs" / run_id for run_id in trial.run_ids]
    if len(folders) < suite.repeats or not all(map(is_finished, folders)):
        return ()
    try:
        checksums = {found.pretraining: found.checksum for found in map(find_backbone, folders)}
    except CheckpointError:
        return ()
    # By what each was told: folders are in the order of their names, in which the eleventh comes before the third.
    return tuple(Pretrained(run=run, backbone=checksums[run]) for run in suite.trial_runs(trial.point))


def check_foundation(suite: SuiteSpec, results: Path) -> None:
    """Whether the networks that a suite classifies by are there, asked before anything is trained.

    Raises:
        CheckpointError: those of a row are gone, or are others.
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
    """What is to follow a suite that has not been run."""
    rows = {row: suite.trial_runs({ROW: row}) for row in suite.rows}
    runs = {row: tuple(Pretrained(run=run, backbone=None) for run in of_seeds) for row, of_seeds in rows.items()}
    return _built_on(suite, Foundation(sweep=suite.name, runs=runs))


def begun(following: SuiteSpec, results: Path) -> tuple[list[str], SuiteSpec | None]:
    """The sweeps in `results` that have rows of this very suite, oldest first; and it with the other rows, if any."""
    pull.fetch(results / "sweeps", only=pull.is_of_sweep)
    records = sorted(read_sweeps(results).to_pylist(), key=lambda row: row["started_at"])
    sweeps = {row["sweep_id"]: parse_stored(row["spec"]) for row in records if row["name"] == following.name}
    known = {name: sweep for name, sweep in sweeps.items() if isinstance(sweep, SuiteSpec) and sweep.built_on}
    left, ids = set(following.rows), []
    for sweep_id, sweep in known.items():
        same = {row for row in left if row in sweep.rows and _only(following, {row}) == _only(sweep, {row})}
        left -= same
        ids += [sweep_id] if same else []
    return ids, _only(following, left) if left else None


def _only(suite: SuiteSpec, rows: Collection[str]) -> SuiteSpec:
    """The same suite with some of its rows."""
    foundation = suite.built_on
    assert foundation is not None, "it follows another"
    runs = {row: runs for row, runs in foundation.runs.items() if row in rows}
    kept = {row: own for row, own in suite.rows.items() if row in rows}
    return suite.model_copy(update={"rows": kept, "built_on": Foundation(sweep=foundation.sweep, runs=runs)})


def _built_on(suite: SuiteSpec, foundation: Foundation) -> SuiteSpec:
    assert suite.then is not None, "nothing follows"
    return SuiteSpec(
        name=f"{suite.name}_{suite.then.recipe}"[:LONGEST_NAME],
        run=suite.then,
        rows={row: {} for row in suite.rows if row in foundation.runs},
        table=suite.table,
        repeats=suite.repeats,
        built_on=foundation,
    )
