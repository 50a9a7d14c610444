"""Errors as RFC 9457 defines them: every answer that is not a success."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import sqlalchemy as sa
import structlog
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from mcl_ray.config.overrides import broken_rule
from mcl_ray.errors import StoreError, UserError
from mcl_ray.jobs.messages import Problem, ProblemPart

MEDIA_TYPE = "application/problem+json"
MAX_DETAIL = 300
"""Characters of a part's detail at most, as it holds what was sent."""
RETRY_AFTER_S = "5"
UNAVAILABLE = "the database does not answer; send the request again, with the same Idempotency-Key"
UNREACHABLE = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError, TimeoutError)
HANDLED = (HTTPException, RequestValidationError, UserError, StoreError, *UNREACHABLE, Exception)
"""Errors that `answer` handles."""

log = structlog.get_logger()


def problem(
    status: int, detail: str = "", errors: Sequence[ProblemPart] = (), headers: dict[str, str] | None = None
) -> Response:
    """Return the answer of an error."""
    request_id = str(structlog.contextvars.get_contextvars().get("request", ""))
    body = Problem(
        title=HTTPStatus(status).phrase, status=status, detail=detail, request_id=request_id, errors=list(errors)
    )
    waits = {"Retry-After": RETRY_AFTER_S} if status in (429, 503) else {}
    return Response(body.model_dump_json(), status, waits | (headers or {}), MEDIA_TYPE)


async def answer(_: Request, error: Exception) -> Response:
    """Return the answer to a request that raised an error."""
    match error:
        case HTTPException():
            return problem(error.status_code, str(error.detail), headers=dict(error.headers or {}))
        case RequestValidationError():
            parts = [ProblemPart(pointer=_pointer(part["loc"]), detail=_detail(part)) for part in error.errors()]
            return problem(422, "the request breaks a rule", parts)
        case StoreError():
            return problem(404, str(error))
        case UserError():
            return problem(422, str(error))
        case _ if isinstance(error, UNREACHABLE):
            log.warning("database_unavailable", error=f"{type(error).__name__}: {error}"[:300])
            return problem(503, UNAVAILABLE)
    log.error("unexpected_error", exc_info=error)
    return problem(500, "an unexpected error; the service's log has it under this request_id")


def _detail(part: Any) -> str:
    """Return what is wrong with a part of a request: the rule, and the value if it is short."""
    if part["type"] == "json_invalid":
        return f"the body must be JSON, but: {part['ctx']['error']}"
    if tuple(part["loc"]) == ("body",) and part["type"] != "value_error":
        return "the body must be a JSON object, and be sent with Content-Type: application/json"
    if part["type"] == "extra_forbidden":
        return f"unknown field {str(part['loc'][-1])!r}"[:MAX_DETAIL]
    return broken_rule(part)[:MAX_DETAIL]


def _pointer(loc: Sequence[int | str]) -> str:
    """Return the JSON pointer of a validation error: into the body, or `/query/…`, `/header/…`, `/path/…`."""
    parts = loc[1:] if loc and loc[0] == "body" else loc
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)
