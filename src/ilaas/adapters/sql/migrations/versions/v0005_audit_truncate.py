"""PostgreSQL empties a table without asking the triggers of its rows: let the audit trail refuse that too."""

from __future__ import annotations

from alembic.operations import Operations

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade(op: Operations) -> None:
    """Guard the whole table, as its rows are."""
    if op.get_context().dialect.name == "postgresql":
        op.execute(
            "CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit "
            "FOR EACH STATEMENT EXECUTE FUNCTION ilaas_audit_is_append_only()"
        )
