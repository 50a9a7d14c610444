"""Encoded images in Parquet: one file, or a folder of files, with an image column and a label column."""

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
    """Return the index of all rows, in the order of the files' names.

    Raises:
        DataError: there is no Parquet file, a column is missing, or a label or a split is invalid.
    """
    splits, labels = [], []
    for file in _files(path):
        columns = [spec.label_column] + ([spec.split_column] if _has(file, spec.split_column) else [])
        table = _opened(file, spec).read(columns=columns, use_threads=False)
        labels.append(_plain(table.column(spec.label_column), f"{spec.label_column} of {file}"))
        splits.append(_is_train(file, table, spec))
    classes, positions = np.unique(np.concatenate(labels), return_inverse=True)
    index = DatasetIndex(
        class_names=tuple(str(name) for name in classes),
        labels=positions.astype(np.int64),
        is_train=np.concatenate(splits),
    )
    index.check(str(path), spec.untested_classes)
    return index


def open_parquet(path: Path, spec: DataSpec, cache: Path) -> tuple[ArrowImages, IndexCache]:
    """Return the images of all rows, and the cache of this source.

    The images are copied once to an uncompressed Arrow file, which processes can map into memory: Parquet cannot read a
    single row.

    Raises:
        DataError: a file is not Parquet, a column is missing or holds no images, or the cache cannot be written.
    """
    files = _files(path)
    signature = "\n".join(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files)
    reading = f"parquet {spec.image_column} {spec.split_column}"
    index_cache = IndexCache(cache, path, reading=reading, signature=signature)
    file = index_cache.read("images.arrow", _verify, lambda file: _copy(files, spec, file))
    return ArrowImages(file, str(path)), index_cache


def _verify(file: Path) -> Path:
    """Return the path of an Arrow file that can be opened."""
    with pa.memory_map(str(file)) as mapped:
        pa.ipc.open_file(mapped)
    return file


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = sorted(path.glob("*.parquet")) if path.is_dir() else []
    if not files:
        raise DataError(f"data.source=parquet requires a file, or a folder of *.parquet, but {path} is neither")
    return files


def _opened(file: Path, spec: DataSpec) -> pq.ParquetFile:
    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{file} must be a Parquet file, but got: {error}") from error
    columns = parquet.schema_arrow.names
    for column in (spec.image_column, spec.label_column):
        if column not in columns:
            raise DataError(
                f"{file} must have the columns {spec.image_column} and {spec.label_column} (data.image_column, "
                f"data.label_column), but has {', '.join(columns)}"
            )
    return parquet


def _has(file: Path, column: str) -> bool:
    try:
        return column in pq.ParquetFile(file).schema_arrow.names
    except (pa.ArrowInvalid, OSError):
        return False  # `_opened` raises the error


def _plain(column: pa.ChunkedArray, name: str) -> NDArray[np.generic]:
    """Return a column of numbers or names as an array, without dictionary encoding."""
    if column.null_count:
        raise DataError(f"every image must have a label, but {column.null_count} rows of {name} have none")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kinds = (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string)
    if not any(is_kind(column.type) for is_kind in kinds):
        raise DataError(f"labels must be integers or names, but {name} has {column.type}")
    plain: NDArray[np.generic] = np.asarray(column.to_numpy())
    return plain if plain.dtype != object else plain.astype(str)


def _is_train(file: Path, table: pa.Table, spec: DataSpec) -> NDArray[np.bool_]:
    if spec.split_column not in table.column_names:
        name = file.name.lower()
        if not name.startswith(TRAIN + TEST):
            raise DataError(
                f"a Parquet file must have a column {spec.split_column!r} (data.split_column), or a name that begins "
                f"with train or val, but {file} has neither"
            )
        return np.full(table.num_rows, name.startswith(TRAIN))
    splits = table.column(spec.split_column).cast(pa.string())
    others = set(pc.unique(splits).to_pylist()) - set(TRAIN + TEST)
    if others:
        raise DataError(f"a split must be train, val, validation or test, but {file} has {', '.join(map(str, others))}")
    is_train: NDArray[np.bool_] = pc.is_in(splits, pa.array(TRAIN)).to_numpy()
    return is_train


def _copy(files: list[Path], spec: DataSpec, target: Path) -> None:
    schema = pa.schema({"image": pa.large_binary()})
    with pa.OSFile(str(target), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for images in _images(files, spec):
            writer.write_batch(pa.record_batch([images.cast(pa.large_binary())], schema=schema))


def _images(files: list[Path], spec: DataSpec) -> Iterator[pa.Array]:
    """Yield the encoded images in batches; for a struct column, the Hugging Face layout, its field `bytes`."""
    for file in files:
        parquet = _opened(file, spec)
        for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=[spec.image_column], use_threads=False):
            images = batch.column(0)
            if pa.types.is_struct(images.type) and images.type.get_field_index("bytes") >= 0:
                images = pc.struct_field(images, "bytes")
            if not (pa.types.is_binary(images.type) or pa.types.is_large_binary(images.type)):
                raise DataError(f"{spec.image_column} of {file} must hold encoded images, but holds {images.type}")
            yield images
