"""Straightforward FastAPI application over SQLAlchemy, which the service is compared with: one commit for each request.

    python -m benchmarks.bare_service PORT DATABASE_URL

It has no keys, quotas, events, idempotency or checks of what a job would run. Its database is as durable as the
service's.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Iterator
from typing import Annotated

import sqlalchemy as sa
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from mcl_ray.jobs.messages import JobRequest

router = APIRouter()


class Base(DeclarativeBase):
    """Base of the tables."""


class JobRow(Base):
    """Table of jobs."""

    __tablename__ = "job"
    id: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(16))
    spec: Mapped[str]
    state: Mapped[str] = mapped_column(sa.String(10), default="queued")
    created: Mapped[float]


class BareJob(BaseModel):
    """Answer to a request."""

    model_config = ConfigDict(from_attributes=True)
    id: str
    kind: str
    spec: str
    state: str
    created: float


def create_app(url: str) -> FastAPI:
    """Build the application."""
    engine = sa.create_engine(url, pool_size=40)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
    Base.metadata.create_all(engine)
    app = FastAPI()
    app.state.engine = engine
    app.include_router(router)
    return app


def session_of(request: Request) -> Iterator[Session]:
    """Provide the session of a request."""
    with Session(request.app.state.engine) as session:
        yield session


SessionDep = Annotated[Session, Depends(session_of)]


@router.post("/jobs", status_code=202)
def submit(request: JobRequest, session: SessionDep) -> BareJob:
    """Store a job."""
    row = JobRow(id=uuid.uuid4().hex, kind=request.kind, spec=request.model_dump_json(), created=time.time())
    session.add(row)
    session.commit()
    return BareJob.model_validate(row)


@router.get("/jobs/{job_id}")
def get_job(job_id: str, session: SessionDep) -> BareJob:
    """Return a job."""
    row = session.get(JobRow, job_id)
    if row is None:
        raise HTTPException(404)
    return BareJob.model_validate(row)


def _prepare_sqlite(connection: sa.engine.interfaces.DBAPIConnection, _record: object) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000"):
        connection.cursor().execute(f"PRAGMA {pragma}")


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[2]), port=int(sys.argv[1]), log_level="warning", access_log=False)
