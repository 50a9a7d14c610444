"""Tables of results in an answer: JSON, CSV or Parquet, as the client accepts, with an ETag."""

from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING, Any

import pydantic_core
from fastapi import HTTPException, Request
from fastapi.responses import Response

if TYPE_CHECKING:
    import pyarrow as pa  # 40 MB of memory, at the first request for a table

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {CSV: {"schema": {"type": "string"}}, PARQUET: {"schema": {"type": "string"}}}},
    304: {"description": "Not modified: If-None-Match names the current version."},
}


def table(request: Request, content: pa.Table) -> Response:
    """Return a table in the first format that the client accepts.

    Raises:
        HTTPException: 406 if it accepts none of them.
    """
    accepted = [part.partition(";")[0].strip() for part in request.headers.get("accept", "*/*").split(",")]
    for media_type in accepted:
        match media_type:
            case "*/*" | "application/*" | "application/json":
                rows = pydantic_core.to_json({"rows": content.to_pylist()}, inf_nan_mode="null")  # JSON has no NaN
                return tagged(request, rows, JSON)
            case "text/csv" | "text/*":
                import pyarrow.csv

                buffer = io.BytesIO()
                pyarrow.csv.write_csv(_flat(content), buffer)
                return tagged(request, buffer.getvalue(), CSV)
            case "application/vnd.apache.parquet":
                import pyarrow.parquet

                buffer = io.BytesIO()
                pyarrow.parquet.write_table(content, buffer)
                return tagged(request, buffer.getvalue(), PARQUET)
    raise HTTPException(406, f"a table is sent as {JSON}, {CSV} or {PARQUET}")


def tagged(request: Request, content: bytes, media_type: str, headers: dict[str, str] | None = None) -> Response:
    """Return an answer with an ETag, or 304 if the client has it already."""
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    sent = (headers or {}) | {"ETag": etag, "Cache-Control": "private, no-cache", "Vary": "Accept"}
    if etag in (part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")):
        return Response(status_code=304, headers=sent)
    return Response(content, headers=sent, media_type=media_type)


def _flat(content: pa.Table) -> pa.Table:
    """Return the table with nested columns as JSON text, which CSV can hold."""
    import pyarrow as pa

    for number, column in enumerate(content.schema):
        if pa.types.is_nested(column.type):
            texts = [None if value is None else json.dumps(value) for value in content[column.name].to_pylist()]
            content = content.set_column(number, column.name, pa.array(texts, pa.string()))
    return content
