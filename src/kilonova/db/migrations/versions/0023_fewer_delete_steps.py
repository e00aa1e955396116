"""Two steps at the end of a delete are part of its last one: a delete that stood before either goes on there."""

from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    steps = "('forget_unfinished_images', 'end_migration')"
    op.execute(f"UPDATE flows SET step = 'set_deleted' WHERE kind = 'delete' AND state = 'running' AND step IN {steps}")
