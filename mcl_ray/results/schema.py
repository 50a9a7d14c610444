"""The schemas of the three tables, their version, and conversion to and from Parquet bytes.

No file is opened here; `atomic_io.py` reads and writes the bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from mcl_ray.errors import StoreError

SCHEMA_VERSION = 1
Kind = Literal["runs", "epochs", "sweeps"]
RunState = Literal["running", "finished", "stopped", "failed", "interrupted"]
"""`stopped`: ended early by a scheduler; `interrupted`: ended by a signal or by the loss of a process or a node."""
SweepState = Literal["running", "finished", "failed", "interrupted"]


class EpochRow(NamedTuple):
    """One figure of one epoch."""

    member: str
    """`peer0` …, `mean`, `best`, `ensemble` or `cohort`."""
    split: str
    metric: str
    value: float


_KIND_KEY, _VERSION_KEY = b"mcl_ray.kind", b"mcl_ray.schema_version"
_CHECKSUM = "sha256"
_INSTANT = pa.timestamp("us", tz="UTC")


def _schema(kind: Kind, *fields: tuple[str, pa.DataType], nullable: Sequence[str] = ()) -> pa.Schema:
    columns = [pa.field(name, dtype, nullable=name in nullable) for name, dtype in fields]
    return pa.schema(columns, metadata={_KIND_KEY: kind.encode(), _VERSION_KEY: str(SCHEMA_VERSION).encode()})


SCHEMAS: dict[Kind, pa.Schema] = {
    "runs": _schema(
        "runs",
        ("run_id", pa.string()),
        ("recipe", pa.string()),
        ("digest", pa.string()),
        ("spec", pa.string()),
        ("searched", pa.string()),
        ("sweep_id", pa.string()),
        ("trial_id", pa.string()),
        ("seed", pa.int64()),
        ("attempt", pa.int32()),
        ("state", pa.string()),
        ("error_type", pa.string()),
        ("error", pa.string()),
        ("epochs_done", pa.int32()),
        ("epochs_planned", pa.int32()),
        ("started_at", _INSTANT),
        ("wall_time_s", pa.float64()),
        ("host", pa.string()),
        ("hardware", pa.string()),
        ("code_version", pa.string()),
        ("torch_version", pa.string()),
        ("parameters", pa.int64()),
        ("multiply_adds", pa.int64()),
        nullable=("sweep_id", "trial_id", "error_type", "error", "torch_version", "parameters", "multiply_adds"),
    ),
    "epochs": _schema(
        "epochs",
        ("run_id", pa.string()),
        ("attempt", pa.int32()),
        ("epoch", pa.int32()),
        ("member", pa.string()),
        ("split", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
    ),
    "sweeps": _schema(
        "sweeps",
        ("sweep_id", pa.string()),
        ("name", pa.string()),
        ("spec", pa.string()),
        ("state", pa.string()),
        ("objective", pa.string()),
        ("mode", pa.string()),
        ("trials_planned", pa.int32()),
        ("started_at", _INSTANT),
        ("wall_time_s", pa.float64()),
        ("best_run_id", pa.string()),
        ("host", pa.string()),
        ("hardware", pa.string()),
        ("code_version", pa.string()),
        nullable=("best_run_id",),
    ),
}


def table(kind: Kind, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return rows as an arrow table of this kind."""
    return pa.Table.from_pylist(list(rows), schema=SCHEMAS[kind])


def concatenated(kind: Kind, tables: Iterable[pa.Table]) -> pa.Table:
    """Return the rows of tables of this kind as one table; an empty one of none."""
    return pa.concat_tables([SCHEMAS[kind].empty_table(), *tables])


def to_parquet(content: pa.Table) -> bytes:
    """Return Parquet bytes with the version of the schema in the metadata and a checksum on every page."""
    buffer = io.BytesIO()
    pq.write_table(content, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def from_parquet(content: bytes, kind: Kind, name: object) -> pa.Table:
    """Return the table in Parquet bytes; `name` is the file named in errors.

    Raises:
        StoreError: the bytes are damaged, of another kind, or of a newer version of the schema.
    """
    try:
        # In this thread only: a process that exits while arrow starts its thread pool is aborted.
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True, pre_buffer=False)
        found = file.read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"a results file must be valid Parquet, but {name} is damaged: {error}") from error
    _check_metadata(found.schema.metadata or {}, kind, name)
    wanted = SCHEMAS[kind]
    missing = [column for column in wanted.names if column not in found.schema.names]
    if missing:
        raise StoreError(f"a file of {kind} must have every column, but {name} lacks {', '.join(missing)}")
    selected = found.select(wanted.names)
    if selected.schema.equals(wanted):
        return selected.replace_schema_metadata(wanted.metadata)
    try:
        return selected.cast(wanted)
    except (pa.ArrowException, ValueError) as error:
        raise StoreError(f"a file of {kind} must have the types of its schema, but {name} does not: {error}") from error


def _check_metadata(metadata: Mapping[bytes, bytes], kind: Kind, name: object) -> None:
    found_kind = metadata.get(_KIND_KEY, b"").decode(errors="replace")
    version = metadata.get(_VERSION_KEY, b"").decode(errors="replace")
    if found_kind != kind or not version.isdecimal():
        raise StoreError(
            f"a file of {kind} must have kind={kind!r} and a version in its metadata, but {name} has {found_kind!r}"
        )
    if int(version) > SCHEMA_VERSION:
        raise StoreError(
            f"`schema version <= {SCHEMA_VERSION}` must hold, but {name} has version {version}; "
            "it was written by a newer mcl-ray"
        )


def to_json(content: Mapping[str, Any]) -> str:
    """Return canonical JSON: equal content gives equal text."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a JSON file with its checksum."""
    return {**content, _CHECKSUM: _checksum(content)}


def verified(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content without its checksum; earlier versions wrote none.

    Raises:
        ValueError: the checksum is that of another content.
        TypeError, AttributeError: the content is no mapping.
    """
    if content.pop(_CHECKSUM, None) not in (None, _checksum(content)):
        raise ValueError("its checksum is that of another content")
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
