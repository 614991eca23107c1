"""Organisations, keys, servers, usage records and the audit trail."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade(op: Operations) -> None:
    """Make the first tables. `op` comes as an argument: Alembic's global one is shared by every store of a process."""
    meta = op.create_table(
        "meta",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_meta"),
    )
    op.bulk_insert(meta, [{"id": 1, "revision": 1}])
    op.create_table(
        "organisations",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("weight", sa.Double, nullable=False),
        sa.Column("contributor", sa.Boolean, nullable=False),
        sa.Column("consumer", sa.Boolean, nullable=False),
        sa.Column("limits", sa.JSON, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_organisations"),
    )
    _keys(op)
    _servers(op)
    _usage(op)
    _audit(op)


def _keys(op: Operations) -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("hint", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("organisation", sa.Text, nullable=False),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("routing_mode", sa.Text, nullable=False),
        sa.Column("classes", sa.JSON, nullable=False),
        sa.Column("models", sa.JSON),
        sa.Column("created_at_s", sa.Double, nullable=False),
        sa.Column("expires_at_s", sa.Double),
        sa.Column("revoked_at_s", sa.Double),
        sa.Column("replaced_by", sa.Text),
        sa.Column("last_used_at_s", sa.Double),
        sa.Column("limits", sa.JSON, nullable=False),
        sa.Column("chat_client", sa.Boolean, nullable=False),
        sa.Column("threshold", sa.Integer),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.UniqueConstraint("digest", name="uq_keys_digest"),
        sa.ForeignKeyConstraint(["organisation"], ["organisations.name"], name="fk_keys_organisation"),
    )
    op.create_index("ix_keys_organisation_project_name", "keys", ["organisation", "project", "name"])
    op.create_index("ix_keys_revision", "keys", ["revision"])


def _servers(op: Operations) -> None:
    op.create_table(
        "servers",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("served_name", sa.Text, nullable=False),
        sa.Column("engine", sa.Text, nullable=False),
        sa.Column("token_encrypted", sa.Text),
        sa.Column("max_parallel_requests", sa.Integer),
        sa.Column("owner_reserved", sa.Integer, nullable=False),
        sa.Column("context_window", sa.Integer),
        sa.Column("quantisation", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_servers"),
    )
    op.create_table(
        "server_marks",
        sa.Column("server_id", sa.Text, nullable=False),
        sa.Column("draining", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("server_id", name="pk_server_marks"),
    )


def _usage(op: Operations) -> None:
    texts = ("organisation", "project", "key_id", "endpoint", "model", "server", "site", "owner")
    tokens = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "audio_ms")
    impact = ("energy_mj", "energy_low_mj", "energy_high_mj", "co2e_ug", "embodied_co2e_ug")
    op.create_table(
        "usage_records",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("finished_at_ms", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in texts),
        sa.Column("request_class", sa.Text, nullable=False),
        sa.Column("routing_mode", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("streamed", sa.Boolean, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in tokens),
        sa.Column("estimated", sa.Boolean, nullable=False),
        sa.Column("queue_ms", sa.BigInteger, nullable=False),
        sa.Column("ttft_ms", sa.BigInteger, nullable=False),
        sa.Column("duration_ms", sa.BigInteger, nullable=False),
        sa.Column("price_micro_eur", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in impact),
        sa.Column("impact_method", sa.Text, nullable=False),
        sa.Column("energy_measured", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_usage_records"),
    )
    op.create_index("ix_usage_records_finished_at_ms", "usage_records", ["finished_at_ms"])


def _audit(op: Operations) -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("before", sa.Text),
        sa.Column("after", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    if op.get_context().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION ilaas_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'the audit trail is append-only'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit "
            "FOR EACH ROW EXECUTE FUNCTION ilaas_audit_is_append_only()"
        )
        return
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_no_{change.lower()} BEFORE {change} ON audit "
            "BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END"
        )
