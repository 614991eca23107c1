"""Projects, people with roles and tokens, agreements, and the answers kept for repeated requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade(op: Operations) -> None:
    """Add what governs the federation. Every project that a key names already becomes a project without limits."""
    op.add_column("organisations", sa.Column("kind", sa.Text, nullable=False, server_default="member"))
    op.add_column("organisations", sa.Column("agreement_starts_on", sa.Date))
    op.add_column("organisations", sa.Column("agreement_ends_on", sa.Date))
    op.add_column("organisations", sa.Column("agreement_url", sa.Text))
    op.add_column("organisations", sa.Column("model_limits", sa.JSON, nullable=False, server_default="{}"))
    op.add_column("audit", sa.Column("organisation", sa.Text))
    op.create_index("ix_audit_organisation", "audit", ["organisation"])
    op.create_index("ix_audit_subject", "audit", ["subject"])
    op.create_table(
        "projects",
        sa.Column("organisation", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("models", sa.JSON),
        sa.Column("limits", sa.JSON, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("organisation", "name", name="pk_projects"),
        sa.ForeignKeyConstraint(["organisation"], ["organisations.name"], name="fk_projects_organisation"),
    )
    op.create_index("ix_projects_revision", "projects", ["revision"])
    op.execute(
        "INSERT INTO projects (organisation, name, active, limits, revision) "
        "SELECT organisation, project, true, CAST('{}' AS JSON), (SELECT revision FROM meta) "
        "FROM keys GROUP BY organisation, project"
        if op.get_context().dialect.name == "postgresql"
        else "INSERT INTO projects (organisation, name, active, limits, revision) "
        "SELECT organisation, project, true, '{}', (SELECT revision FROM meta) "
        "FROM keys GROUP BY organisation, project"
    )
    _people(op)
    op.create_table(
        "kept_answers",
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("caller", "key", name="pk_kept_answers"),
    )
    op.create_index("ix_kept_answers_at_s", "kept_answers", ["at_s"])


def _people(op: Operations) -> None:
    op.create_table(
        "people",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("email", sa.Text),
        sa.Column("subject", sa.Text),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("created_at_s", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_people"),
        sa.UniqueConstraint("email", name="uq_people_email"),
        sa.UniqueConstraint("subject", name="uq_people_subject"),
    )
    op.create_table(
        "roles",
        sa.Column("person_id", sa.Text, nullable=False),
        sa.Column("organisation", sa.Text, nullable=False),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("person_id", "organisation", "project", "role", name="pk_roles"),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name="fk_roles_person_id"),
    )
    op.create_index("ix_roles_organisation_project", "roles", ["organisation", "project"])
    op.create_table(
        "person_tokens",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("hint", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("person_id", sa.Text, nullable=False),
        sa.Column("created_at_s", sa.Double, nullable=False),
        sa.Column("expires_at_s", sa.Double),
        sa.Column("revoked_at_s", sa.Double),
        sa.Column("last_used_at_s", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_person_tokens"),
        sa.UniqueConstraint("digest", name="uq_person_tokens_digest"),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name="fk_person_tokens_person_id"),
    )
    op.create_index("ix_person_tokens_person_id", "person_tokens", ["person_id"])
