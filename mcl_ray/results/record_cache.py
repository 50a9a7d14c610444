"""Cache of what was read of very many runs: the tables of a thousand runs in one file, in place of files for each.

The files of the runs stay the truth. With the rows of a run, the cache keeps the stamp of the files that they were read
from: names, inodes, sizes and times. The rows count as long as the files have this stamp. A file of the cache begins
with its checksum; one that is missing, damaged or out of date costs time and changes no answer. The folder `.records`,
beside that of the runs, is not uploaded, and can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from mcl_ray.errors import StoreError
from mcl_ray.results import schema
from mcl_ray.results.atomic_io import write_atomically

FOLDER = ".records"
RUNS_PER_FILE = 1000
"""Runs whose numbers differ by less share a file, so that what is written for a run does not grow with their number."""
MIN_UNCACHED = 64
"""Fewest runs of a file, not in it yet, for which it is written; fewer are read from their own files each time."""
SETTLED_NS = 2_000_000_000
"""Age of files from which they are cached: times of a file system are coarse, and a later change must have another."""

_NUMBER = re.compile(r"(\d+)(?:-r\d+)?$")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A kind of table, and the function that reads its rows of a run from the run's own files."""

    kind: schema.Kind
    files: re.Pattern[str]
    """Names of the files in a run's folder that its rows follow from."""
    read: Callable[[Path], pa.Table]
    """Returns the rows of a run's folder."""
    is_lasting: Callable[[pa.Table], bool] | None = None
    """Returns whether the rows follow from those files alone, not from a lock or a process; None: they always do."""


@dataclass(frozen=True)
class _Cached:
    """The content of one file."""

    stamps: Mapping[str, str]
    """Name of a run → stamp, in the order of the rows."""
    places: Mapping[str, tuple[int, int]]
    """Name of a run → its first row and the number of its rows."""
    table: pa.Table

    def rows_of(self, name: str) -> pa.Table:
        return self.table.slice(*self.places[name])


class RecordCache:
    """Reads the tables of runs in one folder, from the cache beside it as far as that is up to date."""

    def __init__(self, runs: Path, source: Source) -> None:
        """Create the reader of the runs in the folder `runs`; nothing is read yet."""
        self._folder, self._source = runs.parent / FOLDER, source

    def tables(self, folders: Sequence[Path]) -> Iterator[pa.Table]:
        """Yield the rows of these runs, by their numbers in thousands, and in the order given among these.

        Raises:
            StoreError: the files of a run that is not cached are damaged.
        """
        for file, group in self._by_file(folders):
            yield self._table(file, group)

    def add(self, folders: Sequence[Path]) -> None:
        """Cache these runs beside those that are cached, as far as they are not, without looking at any others.

        Raises:
            StoreError: the files of a run are damaged.
        """
        for file, group in self._by_file(folders):
            cached = self._load(file)
            known = {} if cached is None else dict.fromkeys(cached.stamps)
            names = sorted(known | dict.fromkeys(folder.name for folder in group))
            self._table(file, [folders[0].parent / name for name in names])

    def _by_file(self, folders: Sequence[Path]) -> Iterator[tuple[Path, list[Path]]]:
        """Yield each file of the cache with its runs."""
        groups: dict[int, list[Path]] = {}
        for folder in folders:
            groups.setdefault(_number(folder.name) // RUNS_PER_FILE, []).append(folder)
        for number, group in sorted(groups.items()):
            yield self._folder / f"{self._source.kind}-{number * RUNS_PER_FILE:06d}", group

    def _table(self, file: Path, folders: Sequence[Path]) -> pa.Table:
        """Return the rows of the runs of one file, which is written if many of them are missing or out of date."""
        if len(folders) < MIN_UNCACHED:
            return pa.concat_tables(map(self._source.read, folders))
        stamps = {folder.name: self._stamp(folder) for folder in folders}
        cached = self._load(file)
        if cached is not None and list(cached.stamps.items()) == list(stamps.items()):
            return cached.table
        settled_ns = time.time_ns() - SETTLED_NS
        found: dict[str, pa.Table] = {}
        lasting: dict[str, str] = {}
        uncached = 0
        for folder in folders:
            name, stamp = folder.name, stamps[folder.name]
            if cached is not None and stamp is not None and cached.stamps.get(name) == stamp:
                found[name], lasting[name] = cached.rows_of(name), stamp
                continue
            found[name] = self._source.read(folder)
            is_lasting = self._source.is_lasting is None or self._source.is_lasting(found[name])
            if stamp is not None and is_lasting and _newest_ns(stamp) < settled_ns:
                lasting[name] = stamp
                uncached += 1
        if uncached >= MIN_UNCACHED:
            self._store(file, lasting, found)
        return pa.concat_tables(found.values()).combine_chunks()

    def _stamp(self, folder: Path) -> str | None:
        """Return the stamp of a run's files; None if they cannot be looked at."""
        try:
            with os.scandir(folder) as entries:
                stats = {entry.name: entry.stat() for entry in entries if self._source.files.fullmatch(entry.name)}
        except OSError:
            return None
        return "/".join(
            f"{name} {stats[name].st_ino} {stats[name].st_size} {stats[name].st_mtime_ns} {stats[name].st_ctime_ns}"
            for name in sorted(stats)
        )

    def _load(self, file: Path) -> _Cached | None:
        """Return the content of a file; None if there is none, or it is damaged or of another version."""
        try:
            digest, _, content = file.read_bytes().partition(b"\n")
            if digest != _checksum(content):
                _log.warning("%s is damaged, and is made again from the records of the runs", file)
                return None
            index, _, rows = content.partition(b"\n")
            return _parsed(json.loads(index), schema.from_parquet(rows, self._source.kind, file))
        except (OSError, StoreError, ValueError, TypeError, AttributeError):
            return None

    def _store(self, file: Path, stamps: Mapping[str, str], tables: Mapping[str, pa.Table]) -> None:
        """Write a file; where results can only be read, it is left out."""
        rows = pa.concat_tables(tables[name] for name in stamps)
        index = [[name, stamp, tables[name].num_rows] for name, stamp in stamps.items()]
        content = json.dumps(index).encode() + b"\n" + schema.to_parquet(rows)
        try:
            file.parent.mkdir(exist_ok=True)
            write_atomically(file, _checksum(content) + b"\n" + content)
        except (OSError, StoreError) as error:
            _log.debug("%s is not written: %s", file, error)


def _parsed(index: Sequence[tuple[str, str, int]], table: pa.Table) -> _Cached | None:
    places, row = {}, 0
    for name, _, num_rows in index:
        places[name] = (row, num_rows)
        row += num_rows
    stamps = {name: stamp for name, stamp, _ in index}
    return _Cached(stamps, places, table) if row == table.num_rows else None


def _number(name: str) -> int:
    """Return the number of a run's trial, or its serial; 0 without one."""
    match = _NUMBER.search(name)
    return int(match[1]) if match else 0


def _newest_ns(stamp: str) -> int:
    """Return the time of the last change of the files of a stamp; 0 without files."""
    return max((int(part.split(" ")[3]) for part in stamp.split("/") if part), default=0)


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
