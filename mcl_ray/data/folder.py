"""Images in folders in the layout of ImageNet: train/<class>/… and val/<class>/…, images at any depth below a class.

val may also be one folder and a table of file names and classes, which `class_table` reads.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from mcl_ray.data.class_table import ClassTable, find_class_table, has_class_folders, tables_of
from mcl_ray.data.dataset_index import TEST, TRAIN, VALIDATION, Check, DatasetIndex, listed, with_test_split
from mcl_ray.data.decoding import suffixes
from mcl_ray.data.encoded import ImageFiles, printable
from mcl_ray.data.entries import entries_of, files_below, is_file, is_folder
from mcl_ray.data.index_cache import IndexCache
from mcl_ray.data.split_names import check_one_name, split_of
from mcl_ray.errors import DataError

INDEX = "index-3"
MAX_KINDS = 8
"""Maximum number of kinds of files that are left out and named."""


def list_folder(root: Path, untested_classes: int) -> DatasetIndex:
    """Return the index of the images below `root`.

    Args:
        root: folder with train/ and val/.
        untested_classes: maximum number of classes without test images.

    Raises:
        DataError: `train` or `val` is missing, two folders mean one split, a class lacks images, or a folder cannot be
            read.
    """
    return _checked(root, _scan(root), untested_classes)


def open_folder(
    root: Path, untested_classes: int, cache: Path, check: Check
) -> tuple[DatasetIndex, ImageFiles, IndexCache]:
    """Return the index of the images below `root`, from the cache if no file has been added or removed since.

    Args:
        root: folder with train/ and val/.
        untested_classes: maximum number of classes without test images.
        cache: folder of all caches.
        check: called before the index is cached; nothing is cached if it raises.

    Returns:
        The index, the images, and the cache of this source.

    Raises:
        DataError: as `list_folder`, or the cache cannot be written.
    """
    index_cache = IndexCache(cache, root, reading="folder", signature=_signature(root))
    cached = index_cache.find(INDEX, lambda content: _current(root, content))
    table = _scan(root) if cached is None else cached
    index = _checked(root, table, untested_classes)
    check(index)
    if cached is None:
        index_cache.store(INDEX, _to_bytes(table))
    return index, ImageFiles(root, table.column("path").combine_chunks()), index_cache


def _checked(root: Path, table: pa.Table, untested_classes: int) -> DatasetIndex:
    facts = json.loads(table.schema.metadata[b"facts"])
    index = DatasetIndex(
        class_names=tuple(facts["classes"]),
        labels=table.column("label").to_numpy(),
        splits=table.column("split").to_numpy(),
        left_out=facts["left_out"],
        tables=facts["tables"],
    )
    index.check(printable(root), untested_classes)
    return index


def _split_folders(root: Path) -> dict[str, int]:
    """Return name → split of the folders that hold images: train, and val, test or both, by their `SPLIT_NAMES`.

    Raises:
        DataError: one of them is missing, or two mean one split.
    """
    folders = [entry.name for entry in (entries_of(root) if root.is_dir() else []) if is_folder(entry)]
    names = {name: split for name in folders if (split := split_of(name)) is not None}
    check_one_name(names, printable(root))
    by_split = {split: name for name, split in names.items()}
    if VALIDATION in by_split and TEST in by_split and not has_class_folders(root / by_split[TEST]):
        del names[by_split[TEST]]  # as of ImageNet, whose test images have no labels
    for missing in ["train"] * (TRAIN not in by_split) + ["val"] * (len(names) == (TRAIN in by_split)):
        among = f" among {listed([printable(name) for name in folders])}" if folders else ""
        found = (
            f"has no {missing}/{among}" if root.is_dir() else "is a file; for a Parquet file, set data.source=parquet"
        )
        raise DataError(
            f"a folder of images must have train/<class>/* and val/<class>/*, but {printable(root)} {found}"
        )
    return names


def _signature(root: Path) -> str:
    """Return the modification times of the folders of splits and classes, which change with the files in them."""
    lines = []
    for name in _split_folders(root):
        inside = [Path(entry.path) for entry in entries_of(root / name) if is_folder(entry)]
        paths = [root / name, *inside, *tables_of(root / name)]
        lines += [f"{path} {path.stat().st_mtime_ns}" for path in paths]
    return "\n".join(lines)


class _Scan:
    """The images that a scan of the folders has found so far."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.paths: list[bytes] = []
        self.labels: list[int] = []
        self.splits: list[int] = []
        self.folders: dict[str, int] = {}
        """Folders below those of the classes → when they were modified."""
        self._others: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, path: str, label: int, split: int) -> None:
        self.paths.append(os.fsencode(os.path.relpath(path, self.root)))
        self.labels.append(label)
        self.splits.append(split)

    def leave_out(self, path: str, words: str) -> None:
        self._others[words] += 1
        self._examples.setdefault(words, printable(os.path.relpath(path, self.root)))

    def left_out(self) -> dict[str, int]:
        named = self._others.most_common(MAX_KINDS)
        rest = self._others.total() - sum(count for _, count in named)
        return {f"{words}, as {self._examples[words]}": count for words, count in named} | (
            {"files of other kinds": rest} if rest else {}
        )

    def files(self, folder: str) -> Iterator[os.DirEntry[str]]:
        """Yield the files at any depth below a folder, and note when the folders were modified."""
        return files_below(folder, self._note)

    def _note(self, folder: str, status: os.stat_result) -> None:
        self.folders[os.path.relpath(folder, self.root)] = status.st_mtime_ns

    def images(self, folder: str) -> Iterator[os.DirEntry[str]]:
        """Yield the images at any depth below a folder, and count the other files."""
        for entry in self.files(folder):
            suffix = Path(entry.name).suffix.lower()
            if not is_file(entry):
                self.leave_out(entry.path, "links to nothing, or special files")
            elif suffix in suffixes():
                yield entry
            else:
                kind = f"files that end in {printable(suffix)}" if suffix else "files without a suffix"
                self.leave_out(entry.path, kind)


def _scan(root: Path) -> pa.Table:
    """Return path, label and split of every image, with the other facts of the index in the schema's metadata."""
    scan, split_folders = _Scan(root), _split_folders(root)
    tables = {name: table for name in split_folders if (table := find_class_table(root / name))}
    names = {
        entry.name
        for split in split_folders.keys() - tables.keys()
        for entry in entries_of(root / split)
        if is_folder(entry)
    } | {name for table in tables.values() for name in table.classes.values()}
    classes = {name: label for label, name in enumerate(sorted(names))}
    for split, code in split_folders.items():
        if split in tables:
            _add_listed(scan, root / split, code, tables[split], classes)
        else:
            _add_folders(scan, root / split, code, classes)
    for entry in entries_of(root):
        if is_folder(entry) and entry.name not in split_folders:
            for file in scan.files(entry.path):
                scan.leave_out(file.path, f"files in {printable(entry.name)}/, which is no split with classes")
    facts = {
        "classes": [printable(name) for name in classes],
        "left_out": scan.left_out(),
        "tables": {split: printable(table.name) for split, table in tables.items()},
        "folders": [[os.fsencode(folder).hex(), modified] for folder, modified in scan.folders.items()],
    }
    table = pa.table(
        {
            "path": pa.array(scan.paths, pa.large_binary()),
            "label": np.array(scan.labels, np.int64),
            "split": with_test_split(np.array(scan.splits, np.int8)),
        }
    )
    return table.replace_schema_metadata({"facts": json.dumps(facts)})


def _add_folders(scan: _Scan, folder: Path, split: int, classes: dict[str, int]) -> None:
    """Add the images of a split that has a folder for each class."""
    for entry in entries_of(folder):
        if is_folder(entry):
            for image in scan.images(entry.path):
                scan.add(image.path, classes[entry.name], split)
        else:
            scan.leave_out(entry.path, f"files of no class in {printable(folder.name)}/")


def _add_listed(scan: _Scan, folder: Path, split: int, table: ClassTable, classes: dict[str, int]) -> None:
    """Add the images of a split whose classes a table has."""
    found = set()
    for image in scan.images(str(folder)):
        row = table.row_of(image.name)
        if row is None:
            scan.leave_out(image.path, f"images without a row in the table of {printable(folder.name)}/")
        else:
            found.add(row)
            scan.add(image.path, classes[table.classes[row]], split)
    for name in sorted(table.classes.keys() - found):
        scan.leave_out(str(folder / name), f"rows of the table of {printable(folder.name)}/ without an image")


def _to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _current(root: Path, content: bytes) -> pa.Table:
    """Read a cached index.

    Raises:
        ValueError: a folder below those of the classes has changed since.
    """
    table = pa.ipc.open_stream(content).read_all()
    for folder, modified in json.loads(table.schema.metadata[b"facts"])["folders"]:
        path = root / os.fsdecode(bytes.fromhex(folder))
        if not path.is_dir() or path.stat().st_mtime_ns != modified:
            raise ValueError(f"{folder} has changed")
    return table
