"""Images in folders in the layout of ImageNet: train/<class>/* and val/<class>/*."""

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
    """Return the index of the images below `root`.

    Args:
        root: folder with train/ and val/.
        untested_classes: maximum number of classes without test images.

    Raises:
        DataError: `train` or `val` is missing, or a class lacks images.
    """
    classes = _classes(root)
    return _index(root, classes, _table(root, classes), untested_classes)


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
    classes = _classes(root)
    index_cache = IndexCache(cache, root, reading="folder", signature=_signature(root, classes))
    cached = _cached(index_cache.path(INDEX))
    table = _table(root, classes) if cached is None else cached
    index = _index(root, classes, table, untested_classes)
    check(index)
    index_cache.file(INDEX, lambda file: _write(file, table))
    return index, ImageFiles(root, table.column("path").combine_chunks()), index_cache


def _index(root: Path, classes: list[str], table: pa.Table, untested_classes: int) -> DatasetIndex:
    index = DatasetIndex(
        class_names=tuple(classes),
        labels=table.column("label").to_numpy(),
        is_train=table.column("is_train").to_numpy(),
    )
    index.check(str(root), untested_classes)
    return index


def _classes(root: Path) -> list[str]:
    for split in SPLITS:
        if not (root / split).is_dir():
            found = f"has no {split}/" if root.is_dir() else "is a file; for a Parquet file, set data.source=parquet"
            raise DataError(f"a folder of images must have train/<class>/* and val/<class>/*, but {root} {found}")
    train, val = ({entry.name for entry in os.scandir(root / split) if entry.is_dir()} for split in SPLITS)
    return sorted(train | val)


def _signature(root: Path, classes: list[str]) -> str:
    """Return the modification times of all folders, which change when a file is added or removed."""
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


def _cached(file: Path) -> pa.Table | None:
    """Read the cached index; None if it does not exist or is damaged. A damaged file is deleted."""
    if not file.exists():
        return None
    try:
        return pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    except (pa.ArrowInvalid, OSError):
        file.unlink(missing_ok=True)
        return None
