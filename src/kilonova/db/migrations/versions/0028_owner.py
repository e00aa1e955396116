"""A database knows which cloud's it is; an older one becomes that of the cloud that starts with it next."""

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    missing.add_tables("cloud")
