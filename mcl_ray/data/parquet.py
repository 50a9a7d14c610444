"""Encoded images in Parquet: one file, or a folder of files, with a column of images and one of labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mcl_ray.config.spec import DataSpec
from mcl_ray.data.dataset_index import DatasetIndex
from mcl_ray.data.encoded import ArrowImages
from mcl_ray.data.index_cache import IndexCache
from mcl_ray.errors import DataError

TRAIN, TEST = ("train",), ("val", "valid", "validation", "test")
ROWS_AT_ONCE = 1024


def list_parquet(path: Path, spec: DataSpec) -> DatasetIndex:
    """The classes and splits of all rows, in the order of the files' names.

    Raises:
        DataError: there is no such file, it has not these columns, or its values are none that can be used.
    """
    splits, labels = [], []
    for file in _files(path):
        columns = [spec.label_column] + ([spec.split_column] if _has(file, spec.split_column) else [])
        table = _opened(file, spec).read(columns=columns, use_threads=False)
        labels.append(_plain(table.column(spec.label_column), f"{spec.label_column} of {file}"))
        splits.append(_is_train(file, table, spec))
    classes, positions = np.unique(np.concatenate(labels), return_inverse=True)
    listing = DatasetIndex(
        class_names=tuple(str(name) for name in classes),
        labels=positions.astype(np.int64),
        is_train=np.concatenate(splits),
    )
    listing.check(str(path), spec.untested_classes)
    return listing


def open_parquet(path: Path, spec: DataSpec, cache: Path) -> tuple[ArrowImages, IndexCache]:
    """The rows' images, copied once to an uncompressed file that processes can map: Parquet has no way to one row."""
    files = _files(path)
    signature = "\n".join(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files)
    shelf = IndexCache(cache, path, reading=f"parquet {spec.image_column} {spec.split_column}", signature=signature)
    file = shelf.read("images.arrow", _opens, lambda file: _copy(files, spec, file))
    return ArrowImages(file, str(path)), shelf


def _opens(file: Path) -> Path:
    with pa.memory_map(str(file)) as mapped:
        pa.ipc.open_file(mapped)
    return file


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = sorted(path.glob("*.parquet")) if path.is_dir() else []
    if not files:
        raise DataError(f"parquet is a file, or a folder of *.parquet, but {path} is neither")
    return files


def _opened(file: Path, spec: DataSpec) -> pq.ParquetFile:
    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{file} must be a Parquet file, but: {error}") from error
    there = parquet.schema_arrow.names
    for column in (spec.image_column, spec.label_column):
        if column not in there:
            raise DataError(
                f"{file} must have the columns {spec.image_column} and {spec.label_column} (data.image_column, "
                f"data.label_column), but has {', '.join(there)}"
            )
    return parquet


def _has(file: Path, column: str) -> bool:
    try:
        return column in pq.ParquetFile(file).schema_arrow.names
    except (pa.ArrowInvalid, OSError):
        return False  # `_opened` says why


def _plain(column: pa.ChunkedArray, where: str) -> NDArray[np.generic]:
    """Numbers or names, without a dictionary."""
    if column.null_count:
        raise DataError(f"every image has a label, but {column.null_count} rows of {where} have none")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kinds = (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string)
    if not any(is_kind(column.type) for is_kind in kinds):
        raise DataError(f"labels are whole numbers or names, but {where} has {column.type}")
    plain: NDArray[np.generic] = np.asarray(column.to_numpy())
    return plain if plain.dtype != object else plain.astype(str)


def _is_train(file: Path, table: pa.Table, spec: DataSpec) -> NDArray[np.bool_]:
    if spec.split_column not in table.column_names:
        name = file.name.lower()
        if not name.startswith(TRAIN + TEST):
            raise DataError(
                f"a split is told by a column {spec.split_column!r} (data.split_column), or by files whose names begin "
                f"with train or val, but {file} has neither"
            )
        return np.full(table.num_rows, name.startswith(TRAIN))
    said = table.column(spec.split_column).cast(pa.string())
    others = set(pc.unique(said).to_pylist()) - set(TRAIN + TEST)
    if others:
        raise DataError(f"a split is train, val, validation or test, but {file} has {', '.join(map(str, others))}")
    is_train: NDArray[np.bool_] = pc.is_in(said, pa.array(TRAIN)).to_numpy()
    return is_train


def _copy(files: list[Path], spec: DataSpec, target: Path) -> None:
    schema = pa.schema({"image": pa.large_binary()})
    with pa.OSFile(str(target), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for images in _images(files, spec):
            writer.write_batch(pa.record_batch([images.cast(pa.large_binary())], schema=schema))


def _images(files: list[Path], spec: DataSpec) -> Iterator[pa.Array]:
    """The encoded images; of a struct, as the Hugging Face hub has it, its bytes."""
    for file in files:
        parquet = _opened(file, spec)
        for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=[spec.image_column], use_threads=False):
            images = batch.column(0)
            if pa.types.is_struct(images.type) and images.type.get_field_index("bytes") >= 0:
                images = pc.struct_field(images, "bytes")
            if not (pa.types.is_binary(images.type) or pa.types.is_large_binary(images.type)):
                raise DataError(f"{spec.image_column} of {file} must hold encoded images, but holds {images.type}")
            yield images
