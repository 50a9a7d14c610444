"""The commands of recorded runs: `mcl runs list`, `compare`, `tag` and `delete`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from mcl_ray.cli import app
from mcl_ray.config.environment import Environment
from mcl_ray.errors import StoreError, UserError
from mcl_ray.object_store import Uri

State = Literal["running", "finished", "stopped", "failed", "interrupted"]
Folder = Annotated[Path, Parameter(help="The results folder.")]
Location = Annotated[Uri | Path, Parameter(help="The results folder, or s3://bucket/prefix.")]

command = app.new_app("runs", "List, compare, tag and delete recorded runs.")
"""Program that the console script `mcl` uses."""


@command.command(name="list")
def list_runs(
    results: Uri | Path = Environment.results, /, *, tag: str | None = None, state: State | None = None
) -> None:
    """List recorded runs with their last accuracy and tags.

    Args:
        results: The folder of a sweep, or a whole results folder; or s3://bucket/prefix of either.
        tag: Only runs that have this tag.
        state: Only runs in this state.
    """
    from mcl_ray.reports.runs import runs_table
    from mcl_ray.results.remote.pull import pull_replica

    folder = pull_replica(results) if isinstance(results, Uri) else results
    app.stdout().print(runs_table(folder, tag=tag, state=state))


@command.command
def compare(*runs: str, results: Location = Environment.results) -> None:
    """Print the fields in which runs differ, and their figures side by side.

    Args:
        runs: Two or more runs, by their ids or folders; a sweep stands for its best run.
    """
    if len(runs) < 2:
        raise UserError(f"a comparison needs two or more runs, but got {len(runs)}")
    from mcl_ray.reports.runs import comparison_table
    from mcl_ray.results.lookup import named_run

    app.stdout().print(comparison_table([named_run(_location(run), results) for run in runs]))


@command.command
def tag(run: str, /, *tags: str, remove: tuple[str, ...] = (), results: Folder = Environment.results) -> None:
    """Add tags to a run, remove others, and print those that it has then.

    Args:
        run: The run, by its id or folder; a sweep stands for its best run.
        tags: Tags to add: words of letters, digits, dots, colons, dashes and underscores.
        remove: A tag to remove; may be given several times.
    """
    from mcl_ray.results.lookup import named_run
    from mcl_ray.results.tags import change_tags

    folder = named_run(_local(run), _local(str(results)))
    app.stdout().print(*change_tags(folder, add=tags, remove=remove))


@command.command
def delete(*runs: str, yes: bool = False, results: Folder = Environment.results) -> None:
    """Delete runs, or sweeps with all their runs, for good.

    Args:
        runs: Runs outside of sweeps, and sweeps, by their ids or folders.
        yes: Delete without asking.
    """
    if not runs:
        raise UserError("a deletion needs one or more runs or sweeps, but got none")
    from mcl_ray.results.deletion import check_deletable
    from mcl_ray.results.deletion import delete as delete_folder
    from mcl_ray.results.lookup import named_record

    named = [named_record(_local(run), _local(str(results))) for run in runs]
    folders = list({folder.resolve(): folder for folder in named}.values())  # a run may be named twice
    for folder in folders:
        check_deletable(folder)
    if not yes:
        _ask(folders)
    for folder in folders:
        delete_folder(folder)
        app.stdout().print(f"deleted {folder}", soft_wrap=True)


def _ask(folders: list[Path]) -> None:
    """Ask whether folders may be deleted.

    Raises:
        UserError: the answer is no, or the input is not a terminal.
    """
    if not sys.stdin.isatty():
        raise UserError("a deletion must be confirmed on a terminal or by --yes, but there is neither")
    for folder in folders:
        app.stdout().print(str(folder), soft_wrap=True)
    if input(f"delete {len(folders)} for good? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError("nothing was deleted")


def _location(name: str) -> Uri | Path:
    return Uri(name) if "://" in name else Path(name)


def _local(name: str) -> Path:
    """Return the path that a name is.

    Raises:
        StoreError: it is the URI of a store.
    """
    if "://" in name:
        raise StoreError(f"runs are tagged and deleted in a results folder, but {name} is a store")
    return Path(name)
