"""Images in folders, as ImageNet has them: train/<class>/* and val/<class>/*."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa

from mcl_ray.data.dataset_index import Check, DatasetIndex
from mcl_ray.data.encoded import ImageFiles
from mcl_ray.data.index_cache import IndexCache
from mcl_ray.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm")
SPLITS = ("train", "val")
INDEX = "index.arrow"


def list_folder(root: Path, untested_classes: int) -> DatasetIndex:
    """List the images below `root`.

    Raises:
        DataError: it has not `train` and `val`, or their classes do not match.
    """
    classes = _classes(root)
    return _listing(root, classes, _table(root, classes), untested_classes)


def open_folder(
    root: Path, untested_classes: int, cache: Path, check: Check
) -> tuple[DatasetIndex, ImageFiles, IndexCache]:
    """The same with the images, from what is kept of the last time if nothing was added or taken away since.

    Nothing is kept of images that `check` refuses.
    """
    classes = _classes(root)
    shelf = IndexCache(cache, root, reading="folder", signature=_signature(root, classes))
    kept = _kept(shelf.path(INDEX))
    table = _table(root, classes) if kept is None else kept
    listing = _listing(root, classes, table, untested_classes)
    check(listing)
    shelf.file(INDEX, lambda file: _write(file, table))
    return listing, ImageFiles(root, table.column("path").combine_chunks()), shelf


def _listing(root: Path, classes: list[str], table: pa.Table, untested_classes: int) -> DatasetIndex:
    listing = DatasetIndex(
        class_names=tuple(classes),
        labels=table.column("label").to_numpy(),
        is_train=table.column("is_train").to_numpy(),
    )
    listing.check(str(root), untested_classes)
    return listing


def _classes(root: Path) -> list[str]:
    for split in SPLITS:
        if not (root / split).is_dir():
            told = f"has no {split}/" if root.is_dir() else "is a file; data.source=parquet reads one of Parquet's"
            raise DataError(f"a folder of images has train/<class>/* and val/<class>/*, but {root} {told}")
    train, val = ({entry.name for entry in os.scandir(root / split) if entry.is_dir()} for split in SPLITS)
    return sorted(train | val)


def _signature(root: Path, classes: list[str]) -> str:
    """A folder's time of change moves when a file comes or goes."""
    folders = [root / split / name for split in SPLITS for name in ("", *classes)]
    return "\n".join(f"{folder} {folder.stat().st_mtime_ns}" for folder in folders if folder.is_dir())


def _table(root: Path, classes: list[str]) -> pa.Table:
    paths: list[str] = []
    labels: list[int] = []
    trains: list[bool] = []
    for split in SPLITS:
        for label, name in enumerate(classes):
            folder = root / split / name
            files = sorted(entry.name for entry in os.scandir(folder) if _is_image(entry)) if folder.is_dir() else []
            paths += [f"{split}/{name}/{file}" for file in files]
            labels += [label] * len(files)
            trains += [split == "train"] * len(files)
    return pa.table({"path": paths, "label": np.array(labels, np.int64), "is_train": np.array(trains, np.bool_)})


def _is_image(entry: os.DirEntry[str]) -> bool:
    return entry.name.lower().endswith(SUFFIXES) and entry.is_file()


def _write(file: Path, table: pa.Table) -> None:
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _kept(file: Path) -> pa.Table | None:
    """The index, if it is there; one that is damaged goes."""
    if not file.exists():
        return None
    try:
        return pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    except (pa.ArrowInvalid, OSError):
        file.unlink(missing_ok=True)
        return None
