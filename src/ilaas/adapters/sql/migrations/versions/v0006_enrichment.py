"""Speech and enrichment: clients, enrichments with their versions and jobs, webhooks that are due, rubbish."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade(op: Operations) -> None:
    """Make the tables."""
    _enrichments(op)
    _versions(op)
    _work(op)
    _clients(op)


def _enrichments(op: Operations) -> None:
    op.create_table(
        "enrichments",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("id", "client_id", "status")),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("created_at_s", "updated_at_s")),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("media_duration_s", sa.Double),
        sa.Column("media_key", sa.Text),
        *(sa.Column(name, sa.Double) for name in ("media_until_s", "results_until_s")),
        sa.Column("fence", sa.BigInteger, nullable=False),
        *(sa.Column(f"job_{name}", sa.Text) for name in ("step", "model", "infrastructure")),
        *(sa.Column(f"job_{name}_s", sa.Double) for name in ("rank", "not_before", "lease_until")),
        sa.Column("job_attempts", sa.Integer),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_enrichments"),
    )
    for columns in (
        ["client_id", "created_at_s"],
        ["job_step", "client_id"],
        ["media_key"],
        ["media_until_s"],
        ["results_until_s"],
    ):
        op.create_index(f"ix_enrichments_{'_'.join(columns)}", "enrichments", columns)
    op.create_table(
        "enrichment_users",
        sa.Column("enrichment_id", sa.Text, nullable=False),
        sa.Column("end_user", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("enrichment_id", "end_user", name="pk_enrichment_users"),
        _of_enrichment("enrichment_users"),
    )
    op.create_index("ix_enrichment_users_end_user", "enrichment_users", ["end_user"])


def _versions(op: Operations) -> None:
    op.create_table(
        "enrichment_versions",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("enrichment_id", sa.Text, nullable=False),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("created_at_s", "updated_at_s")),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("transcript", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_enrichment_versions"),
        _of_enrichment("enrichment_versions"),
    )
    op.create_index(
        "ix_enrichment_versions_enrichment_id_created_at_s", "enrichment_versions", ["enrichment_id", "created_at_s"]
    )


def _work(op: Operations) -> None:
    op.create_table(
        "enrichment_parts",
        sa.Column("enrichment_id", sa.Text, nullable=False),
        sa.Column("step", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        *(sa.Column(name, sa.Double, nullable=False) for name in ("start_s", "end_s")),
        *(sa.Column(name, sa.Text) for name in ("object_key", "result")),
        sa.PrimaryKeyConstraint("enrichment_id", "step", "number", name="pk_enrichment_parts"),
        _of_enrichment("enrichment_parts"),
    )
    op.create_index("ix_enrichment_parts_object_key", "enrichment_parts", ["object_key"])
    op.create_table(
        "enrichment_notices",
        sa.Column("enrichment_id", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("next_at_s", sa.Double, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("enrichment_id", "number", name="pk_enrichment_notices"),
        _of_enrichment("enrichment_notices"),
    )
    op.create_index("ix_enrichment_notices_next_at_s", "enrichment_notices", ["next_at_s"])
    op.create_table(
        "enrichment_turns",
        sa.Column("client_id", sa.Text, nullable=False),
        sa.Column("turn", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("client_id", name="pk_enrichment_turns"),
    )
    op.create_table(
        "object_trash",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_object_trash"),
    )
    op.create_index("ix_object_trash_key", "object_trash", ["key"], unique=True)


def _clients(op: Operations) -> None:
    op.create_table(
        "api_clients",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("id", "organisation", "project", "name")),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("secret_digest", sa.Text, nullable=False),
        sa.Column("webhook_secret", sa.Text),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("created_at_s", sa.Double, nullable=False),
        *(sa.Column(name, sa.Double) for name in ("last_token_at_s", "last_job_at_s")),
        sa.Column("policy", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_api_clients"),
    )
    op.create_index("ix_api_clients_organisation_project_name", "api_clients", ["organisation", "project", "name"])
    op.create_table(
        "signing_keys",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("private_pem", sa.Text, nullable=False),
        sa.Column("created_at_s", sa.Double, nullable=False),
        sa.Column("retired_at_s", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_signing_keys"),
    )


def _of_enrichment(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["enrichment_id"], ["enrichments.id"], name=f"fk_{table}_enrichment_id")
