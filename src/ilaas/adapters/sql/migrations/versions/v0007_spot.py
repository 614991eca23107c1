"""Whether a server that is added at run time may be taken away at any time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade(op: Operations) -> None:
    """Add the column, with a value for what a process of the version before inserts."""
    op.add_column("servers", sa.Column("spot", sa.Boolean, nullable=False, server_default=sa.false()))
