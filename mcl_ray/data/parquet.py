"""Encoded images in Parquet: one file, or a folder of files, with an image column and a label column.

Folders may be nested, with `column=value` in their names (Hive) or the split as their name (the Hugging Face hub).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mcl_ray.config.spec import DataSpec
from mcl_ray.data.dataset_index import LEFT_OUT, TEST, TRAIN, VALIDATION, DatasetIndex, with_test_split
from mcl_ray.data.encoded import PackedImages, pack, printable
from mcl_ray.data.index_cache import DamagedCacheError, IndexCache
from mcl_ray.data.parquet_files import parquet_files
from mcl_ray.data.parquet_images import ImageType, check_lists_are_images, image_type, images_of
from mcl_ray.data.parquet_labels import FileLabels, Labels, join_labels, read_labels
from mcl_ray.data.split_names import SPLIT_NAMES, check_one_name, split_name_in, split_of
from mcl_ray.errors import DataError

ROWS_AT_ONCE = 1024
LISTS_AT_ONCE = 64
"""Number of images that are read at once as lists of numbers, which take many times their bytes."""
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
"""Value in the name of a folder for rows without a value, as Hive, Spark and Arrow write it."""
IMAGES, POSITIONS = "images.bin", "positions"
VERIFIED_BYTES = 2**30
"""Size up to which the checksums of all copied images are compared at the start; of more, each as it is read."""
_CODES = {TRAIN: "train", VALIDATION: "validation", TEST: "test"}
_HEADER = np.dtype([("offsets", "<i8"), ("checksums", "<u4")])


@dataclass(frozen=True, kw_only=True)
class _File:
    """One of the Parquet files of a source."""

    path: Path
    name: str
    """Path below the source, for people."""
    constants: dict[str, str | None]
    """Column → value of all rows, from the names of the folders."""
    parquet: pq.ParquetFile

    @property
    def columns(self) -> list[str]:
        return list(self.parquet.schema_arrow.names)

    def has(self, column: str) -> bool:
        return column in self.columns or column in self.constants

    def column(self, name: str) -> pa.ChunkedArray:
        """Read a column.

        Raises:
            DataError: it is damaged.
        """
        if name not in self.columns:
            value = pa.scalar(self.constants[name], pa.string())
            return pa.chunked_array([pa.repeat(value, self.parquet.metadata.num_rows)])
        with _reading(self.path):
            return self.parquet.read(columns=[name], use_threads=False).column(name)


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Raise DataError for what pyarrow raises for a damaged file, whose names may be no UTF-8 any more."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{printable(file)} must be a Parquet file, but got: {error}") from error


def list_parquet(path: Path, spec: DataSpec) -> DatasetIndex:
    """Return the index of all rows, in the order of the files' names.

    Raises:
        DataError: there is no Parquet file, a column is missing, holds no images, or a label or a split is invalid.
    """
    files, left_out = _files(path, spec)
    _check_split_names(path, files, spec)
    splits = np.concatenate([_splits(file, spec) for file in files])
    constants = [file.constants.get(spec.label_column) for file in files]
    numbers = all(re.fullmatch(r"0|-?[1-9]\d{0,17}", value) for value in constants if value is not None)
    labels = join_labels([_labels(file, spec, numbers=numbers) for file in files])
    codes = labels.codes.copy()
    missing = codes == LEFT_OUT
    if not (missing & (splits == TRAIN)).any():
        _leave_out_unlabelled(labels, codes, splits, left_out)
        missing = (codes == LEFT_OUT) & (splits != LEFT_OUT)
    if missing.any():
        raise DataError(
            f"every image must have a label, but {int(missing.sum())} rows of {spec.label_column} of "
            f"{printable(path)} have none"
        )
    _leave_out_rows_without_images(path, files, spec, splits, left_out)
    _check_lists(files, spec)
    names, codes = _that_occur(labels.class_names, codes, splits)
    index = DatasetIndex(class_names=names, labels=codes, splits=with_test_split(splits), left_out=left_out)
    index.check(printable(path), spec.untested_classes)
    return index


def open_parquet(path: Path, spec: DataSpec, cache: Path) -> tuple[PackedImages, IndexCache]:
    """Return the images of all rows, and the cache of this source.

    The images are copied once to a file that processes can map into memory: Parquet cannot read a single row.

    Raises:
        DataError: a file is not Parquet, a column is missing or holds no images, or the cache cannot be written.
    """
    files, _ = _files(path, spec)
    stats = [(file, file.path.stat()) for file in files]
    signature = "\n".join(f"{file.name} {stat.st_size} {stat.st_mtime_ns}" for file, stat in stats)
    reading = f"parquet {spec.image_column} {spec.split_column}"
    index_cache = IndexCache(cache, path, reading=reading, signature=signature)

    def copy() -> bytes:
        positions: list[tuple[NDArray[np.int64], NDArray[np.uint32]]] = []
        index_cache.write(IMAGES, lambda file: positions.append(pack(_images(files, spec), file)))
        (offsets, checksums) = positions[0]
        content = np.zeros(len(offsets), _HEADER)
        content["offsets"], content["checksums"][:-1] = offsets, checksums
        return content.tobytes()

    def opened(content: bytes) -> PackedImages:
        positions = np.frombuffer(content, _HEADER)
        images = PackedImages(
            index_cache.path(IMAGES),
            positions["offsets"].astype(np.int64),
            positions["checksums"][:-1].astype(np.uint32),
            printable(path),
        )
        _verify(images)
        return images

    return index_cache.read(POSITIONS, opened, copy), index_cache


def _verify(images: PackedImages) -> None:
    """Compare the copy of the images with its checksums.

    Raises:
        DamagedCacheError: the copy is missing, or damaged.
    """
    size = images.file.stat().st_size if images.file.exists() else -1
    if size != images.offsets[-1]:
        raise DamagedCacheError(f"{images.file} is missing or cut off")
    if size > VERIFIED_BYTES:
        return
    content = memoryview(images.file.read_bytes())
    for start, end, checksum in zip(images.offsets[:-1], images.offsets[1:], images.checksums, strict=True):
        if zlib.crc32(content[start:end]) != checksum:
            raise DamagedCacheError(f"{images.file} is damaged")


def _files(path: Path, spec: DataSpec) -> tuple[list[_File], dict[str, int]]:
    """Return the Parquet files of a source in the order of their names, and what else there is."""
    if path.is_file():
        return [_opened(path, path.parent, spec)], {}
    files, left_out = parquet_files(path)
    return [_opened(file, path, spec) for file in files], left_out


def _opened(file: Path, root: Path, spec: DataSpec) -> _File:
    relative = file.relative_to(root)
    with _reading(file):
        parquet = pq.ParquetFile(file)
        columns, metadata = parquet.schema_arrow.names, parquet.metadata
        rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    if min(rows, default=0) < 0 or metadata.num_rows != sum(rows):
        raise DataError(
            f"{printable(file)} must be a Parquet file, but got {metadata.num_rows} rows in parts of {rows}"
        )
    pairs = [part.partition("=") for part in relative.parts[:-1] if "=" in part]
    constants = {unquote(column): None if value == _HIVE_NULL else unquote(value) for column, _, value in pairs}
    opened = _File(path=file, name=printable(relative), constants=constants, parquet=parquet)
    twice = [name for name in dict.fromkeys(columns) if columns.count(name) > 1]
    if twice:
        raise DataError(f"{printable(file)} must have each column once, but has {', '.join(twice)} twice")
    unlabelled = not opened.has(spec.label_column) and not _may_lack_labels(opened, spec)
    if spec.image_column not in columns or unlabelled:
        raise DataError(
            f"{printable(file)} must have the columns {spec.image_column} and {spec.label_column} (data.image_column, "
            f"data.label_column), but has {', '.join(columns)}"
        )
    _image_type(opened, spec)
    return opened


def _may_lack_labels(file: _File, spec: DataSpec) -> bool:
    """Return whether all rows of a file are outside training: a hidden test split has no labels."""
    return bool((_splits(file, spec) != TRAIN).all())


def _image_type(file: _File, spec: DataSpec) -> ImageType:
    """Return the type of the encoded images.

    Raises:
        DataError: the column holds no encoded images.
    """
    kind = file.parquet.schema_arrow.field(spec.image_column).type
    found = image_type(kind)
    if found is None:
        raise DataError(f"{spec.image_column} of {printable(file.path)} must hold encoded images, but holds {kind}")
    return found


def _labels(file: _File, spec: DataSpec, *, numbers: bool) -> FileLabels:
    """Return the labels of a file's rows; those in the names of folders are `numbers`, or names."""
    rows = file.parquet.metadata.num_rows
    if not file.has(spec.label_column):
        return FileLabels(keys=[], codes=np.full(rows, LEFT_OUT), names=None)
    column = file.column(spec.label_column)
    if spec.label_column not in file.columns and numbers:
        column = column.cast(pa.int64())
    metadata = file.parquet.schema_arrow.metadata or {}
    return read_labels(column, spec.label_column, f"{spec.label_column} of {printable(file.path)}", metadata)


def _splits(file: _File, spec: DataSpec) -> NDArray[np.int8]:
    """Return the split of each row."""
    names, positions = _split_names(file, spec)
    return np.array([split_of(name) for name in names], np.int8)[positions]


def _split_names(file: _File, spec: DataSpec) -> tuple[list[str], NDArray[np.int64]]:
    """Return the names of splits of a file, and the position of that of each row.

    They are those of a column, or the one of the file's path.

    Raises:
        DataError: there is neither, or one is no name of a split.
    """
    rows = file.parquet.metadata.num_rows
    if file.has(spec.split_column):
        try:
            encoded = file.column(spec.split_column).cast(pa.large_string()).combine_chunks().dictionary_encode()
            names = encoded.dictionary.to_pylist()
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise DataError(
                f"{spec.split_column} of {printable(file.path)} must hold names of splits, but got: {error}"
            ) from error
        others = [name for name in names if split_of(name) is None] + [None] * bool(encoded.null_count)
        if others:
            raise DataError(
                f"a split must be {', '.join(SPLIT_NAMES)}, but {printable(file.path)} has "
                f"{', '.join(map(str, others))}"
            )
        return names, encoded.indices.to_numpy()
    name = split_name_in(file.name)
    if name is None:
        raise DataError(
            f"a Parquet file must have a column {spec.split_column!r} (data.split_column), or a name with a word for "
            f"its split ({', '.join(SPLIT_NAMES)}), but {printable(file.path)} has neither"
        )
    return [name], np.zeros(rows, np.int64)


def _check_split_names(path: Path, files: list[_File], spec: DataSpec) -> None:
    """Check that each split has one name; in a column, as rows of one table, in upper or lower case.

    Raises:
        DataError: one has two, as train-0.parquet and Training-0.parquet.
    """
    names = set[str]()
    for file in files:
        of_file, _ = _split_names(file, spec)
        names |= {name.lower() for name in of_file} if spec.split_column in file.columns else set(of_file)
    check_one_name(names, printable(path))


def _leave_out_unlabelled(
    labels: Labels, codes: NDArray[np.int64], splits: NDArray[np.int8], left_out: dict[str, int]
) -> None:
    """Leave out splits besides train without labels: none is given, or each is −1 or empty, and none of train is."""
    for mark in {"-1", ""} & set(labels.class_names):
        code = labels.class_names.index(mark)
        if not (codes[splits == TRAIN] == code).any():
            for split in (VALIDATION, TEST):
                if (codes[splits == split] == code).all():
                    codes[splits == split] = LEFT_OUT
    for split in (VALIDATION, TEST):
        of_split = splits == split
        if of_split.any() and (codes[of_split] == LEFT_OUT).all():
            left_out[f"rows of the {_CODES[split]} split, which has no labels"] = int(of_split.sum())
            splits[of_split] = LEFT_OUT


def _leave_out_rows_without_images(
    path: Path, files: list[_File], spec: DataSpec, splits: NDArray[np.int8], left_out: dict[str, int]
) -> None:
    """Leave out rows that hold no image.

    Raises:
        DataError: none of the rows holds one: they have paths, as files that were not embedded.
    """
    lacking = np.concatenate([_lacks_image(file, spec) for file in files])
    if len(lacking) and lacking.all():
        held = "paths, and no images" if _image_type(files[0], spec).in_struct else "no images"
        raise DataError(
            f"{spec.image_column} must hold encoded images, but the rows of {printable(path)} hold {held}; write the "
            "files with their images embedded, or use data.source=folder with the folder of the images"
        )
    count = int((lacking & (splits != LEFT_OUT)).sum())
    if count:
        first = int(np.flatnonzero(lacking & (splits != LEFT_OUT))[0])
        left_out[f"rows without an image, as row {first}"] = count
        splits[lacking] = LEFT_OUT


def _check_lists(files: list[_File], spec: DataSpec) -> None:
    """Check that lists of numbers are images, by the first ones.

    Raises:
        DataError: they are none.
    """
    for file in (file for file in files if _image_type(file, spec).is_list):
        first = next((batch for batch in _batches(file, spec) if batch.null_count < len(batch)), None)
        if first is not None:
            check_lists_are_images(first, f"{spec.image_column} of {printable(file.path)}")
            return


def _lacks_image(file: _File, spec: DataSpec) -> NDArray[np.bool_]:
    """Return which rows have no image; the images are read only if the file's statistics do not exclude it."""
    metadata, kind = file.parquet.metadata, _image_type(file, spec)
    leaf = f"{spec.image_column}.bytes" if kind.in_struct else spec.image_column
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    with _reading(file.path):
        statistics = [column.statistics for column in columns if column.path_in_schema == leaf]
    is_known = len(statistics) == len(groups)  # those of lists are of their numbers
    if is_known and all(known is not None and known.has_null_count and not known.null_count for known in statistics):
        return np.zeros(metadata.num_rows, np.bool_)
    return np.concatenate([np.asarray(pc.is_null(batch)) for batch in _batches(file, spec)] or [np.zeros(0, np.bool_)])


def _that_occur(
    names: tuple[str, ...], codes: NDArray[np.int64], splits: NDArray[np.int8]
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the classes of which there is an image, in their order, and the labels among them."""
    used = np.unique(codes[splits != LEFT_OUT])
    positions = np.zeros(len(names) + 1, np.int64)
    positions[used] = np.arange(len(used))
    return tuple(names[code] for code in used), positions[codes]


def _images(files: list[_File], spec: DataSpec) -> Iterator[bytes]:
    """Yield the encoded image of each row; empty where there is none."""
    for file in files:
        for batch in _batches(file, spec):
            yield from (image or b"" for image in batch.to_pylist())


def _batches(file: _File, spec: DataSpec) -> Iterator[pa.Array]:
    """Yield the encoded images in batches."""
    kind, description = _image_type(file, spec), f"{spec.image_column} of {printable(file.path)}"
    rows = LISTS_AT_ONCE if kind.is_list else ROWS_AT_ONCE
    with _reading(file.path):
        for batch in file.parquet.iter_batches(rows, columns=[spec.image_column], use_threads=False):
            yield images_of(batch.column(0), kind, description)
