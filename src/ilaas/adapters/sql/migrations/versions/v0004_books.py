"""Tariffs, statements that never change once closed, and fairness weights."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_RATES = ("prompt_per_million", "completion_per_million", "cached_per_million", "per_request", "audio_per_hour")
_SUMS = ("requests", "prompt_tokens", "completion_tokens", "cached_tokens", "audio_ms", "micro_eur", "cents")


def upgrade(op: Operations) -> None:
    """Make the tables of the books."""
    op.create_table(
        "tariffs",
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("valid_from", sa.Date, nullable=False),
        sa.Column("valid_to", sa.Date),
        *(sa.Column(name, sa.BigInteger, nullable=name == "cached_per_million") for name in _RATES),
        sa.Column("has_credit", sa.Boolean, nullable=False),
        *(sa.Column(f"credit_{name}", sa.BigInteger) for name in _RATES),
        sa.PrimaryKeyConstraint("model", "valid_from", name="pk_tariffs"),
    )
    op.create_table(
        "statements",
        sa.Column("month", sa.Text, nullable=False),
        sa.Column("organisation", sa.Text, nullable=False),
        sa.Column("closed_at_s", sa.Double, nullable=False),
        *(sa.Column(f"{name}_cents", sa.BigInteger, nullable=False) for name in ("consumed", "contributed", "net")),
        sa.PrimaryKeyConstraint("month", "organisation", name="pk_statements"),
    )
    op.create_index("ix_statements_organisation", "statements", ["organisation"])
    op.create_table(
        "statement_lines",
        sa.Column("month", sa.Text, nullable=False),
        sa.Column("organisation", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("kind", "usage_month", "model", "counterparty")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _SUMS),
        sa.PrimaryKeyConstraint("month", "organisation", "number", name="pk_statement_lines"),
        sa.ForeignKeyConstraint(
            ["month", "organisation"],
            ["statements.month", "statements.organisation"],
            name="fk_statement_lines_month",
        ),
    )
    op.create_table(
        "fair_weights",
        sa.Column("organisation", sa.Text, nullable=False),
        sa.Column("weight", sa.Double, nullable=False),
        sa.Column("by_hand", sa.Boolean, nullable=False),
        sa.Column("contributed_tokens", sa.BigInteger, nullable=False),
        sa.Column("consumed_tokens", sa.BigInteger, nullable=False),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("organisation", name="pk_fair_weights"),
    )
    _append_only(op)


def _append_only(op: Operations) -> None:
    tables = ("statements", "statement_lines")
    if op.get_context().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION ilaas_statements_are_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'closed statements are append-only'; END $$"
        )
        for table in tables:
            op.execute(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION ilaas_statements_are_append_only()"
            )
            op.execute(
                f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION ilaas_statements_are_append_only()"
            )
        return
    for table in tables:
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
                "BEGIN SELECT RAISE(ABORT, 'closed statements are append-only'); END"
            )
