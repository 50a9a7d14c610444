"""Tags of runs: words by which a user finds runs again, in a file of each run's folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from mcl_ray.errors import StoreError, UserError
from mcl_ray.results.atomic_io import FolderLock, read_bytes, write_atomically

TAGS_FILE, LOCK_FILE = "tags.json", ".tags.lock"
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


def read_tags(run_folder: Path) -> tuple[str, ...]:
    """Return the tags of a run in alphabetical order.

    Raises:
        StoreError: the file of tags is damaged.
    """
    file = run_folder / TAGS_FILE
    if not file.is_file():
        return ()
    try:
        tags = json.loads(read_bytes(file))
    except ValueError as error:
        raise StoreError(f"a file of tags must be valid JSON, but {file} is damaged: {error}") from error
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise StoreError(f"a file of tags must be a list of texts, but {file} is not")
    return tuple(sorted(tags))


def change_tags(run_folder: Path, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> tuple[str, ...]:
    """Add tags to a run and remove others, and return those that it has then.

    Raises:
        UserError: a tag to add is not a word of up to 64 letters, digits, dots, colons, dashes and underscores, or a
            tag to remove is not there.
        StoreError: the file of tags is damaged, or cannot be written.
    """
    added, removed = set(add), set(remove)
    for tag in sorted(added):
        if not TAG.fullmatch(tag):
            raise UserError(f"a tag must be 1 to 64 letters, digits or any of `._:-`, but got {tag!r}")
    with FolderLock(run_folder, name=LOCK_FILE, wait_s=10):
        tags = set(read_tags(run_folder))
        if missing := sorted(removed - tags):
            has = ", ".join(sorted(tags)) or "none"
            raise UserError(f"only a tag of the run can be removed, but got {', '.join(missing)}; it has {has}")
        tags = (tags | added) - removed
        write_atomically(run_folder / TAGS_FILE, json.dumps(sorted(tags)).encode())
    return tuple(sorted(tags))
