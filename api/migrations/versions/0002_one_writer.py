"""Let a folder of results have one live job; of several that an older service accepted, the first one stays."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
LIVE = "state IN ('queued', 'starting', 'running')"
FAIL_OTHERS = """
UPDATE job SET state = 'failed', rev = rev + 1, reason = 'another job continues the same results'
WHERE state IN ('queued', 'starting', 'running') AND EXISTS (
    SELECT 1 FROM job AS other
    WHERE other.state IN ('queued', 'starting', 'running') AND other.origin = job.origin AND (
        other.created < job.created OR (other.created = job.created AND other.id < job.id)))
RETURNING id, state, attempt, reason
"""
ADD_EVENT = "INSERT INTO event (job, state, attempt, reason, at) VALUES (:id, :state, :attempt, :reason, :now)"


def upgrade() -> None:
    """Apply the change."""
    connection = op.get_bind()
    for row in connection.execute(sa.text(FAIL_OTHERS)).all():
        connection.execute(sa.text(ADD_EVENT), {**row._mapping, "now": time.time()})
    op.drop_index("job_origin", "job")
    op.create_index(
        "job_origin_live",
        "job",
        ["origin"],
        unique=True,
        sqlite_where=sa.text(LIVE),
        postgresql_where=sa.text(LIVE),
    )
