"""Find the jobs that are due by their state, among any number of queued ones."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
LIVE = sa.text("state IN ('queued', 'starting', 'running')")


def upgrade() -> None:
    """Apply the change."""
    op.drop_index("job_due", "job")
    columns = ["state", "desired", "due"]
    op.create_index("job_state_due", "job", columns, sqlite_where=LIVE, postgresql_where=LIVE)
