"""All tables of the first version.

The first revision makes the schema from the tables as they stand; from the first release on, each change of a
table comes with a revision of its own.
"""

from alembic import op

from kilonova.db.schema import METADATA

revision = "0001"
down_revision = None


def upgrade() -> None:
    METADATA.create_all(op.get_bind())


def downgrade() -> None:
    METADATA.drop_all(op.get_bind())
