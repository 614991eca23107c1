"""Tariffs, closed statements and fairness weights, as tables."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    Table,
    Text,
)

from ilaas.adapters.sql.tables import METADATA

TARIFFS = Table(
    "tariffs",
    METADATA,
    Column("model", Text, primary_key=True),
    Column("valid_from", Date, primary_key=True),
    Column("valid_to", Date),
    Column("prompt_per_million", BigInteger, nullable=False),
    Column("completion_per_million", BigInteger, nullable=False),
    Column("cached_per_million", BigInteger),
    Column("per_request", BigInteger, nullable=False),
    Column("audio_per_hour", BigInteger, nullable=False),
    Column("has_credit", Boolean, nullable=False),
    Column("credit_prompt_per_million", BigInteger),
    Column("credit_completion_per_million", BigInteger),
    Column("credit_cached_per_million", BigInteger),
    Column("credit_per_request", BigInteger),
    Column("credit_audio_per_hour", BigInteger),
)
"""Rates in micro-euros. Without `has_credit` a contributor is credited what the consumer is charged."""

STATEMENTS = Table(
    "statements",
    METADATA,
    Column("month", Text, primary_key=True),
    Column("organisation", Text, primary_key=True),
    Column("closed_at_s", Double, nullable=False),
    Column("consumed_cents", BigInteger, nullable=False),
    Column("contributed_cents", BigInteger, nullable=False),
    Column("net_cents", BigInteger, nullable=False),
    Index(None, "organisation"),
)
"""Append-only: triggers refuse to change or delete a row."""

STATEMENT_LINES = Table(
    "statement_lines",
    METADATA,
    Column("month", Text, primary_key=True),
    Column("organisation", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("usage_month", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("counterparty", Text, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("audio_ms", BigInteger, nullable=False),
    Column("micro_eur", BigInteger, nullable=False),
    Column("cents", BigInteger, nullable=False),
    ForeignKeyConstraint(["month", "organisation"], ["statements.month", "statements.organisation"]),
)
"""Append-only: triggers refuse to change or delete a row."""

FAIR_WEIGHTS = Table(
    "fair_weights",
    METADATA,
    Column("organisation", Text, primary_key=True),
    Column("weight", Double, nullable=False),
    Column("by_hand", Boolean, nullable=False),
    Column("contributed_tokens", BigInteger, nullable=False),
    Column("consumed_tokens", BigInteger, nullable=False),
    Column("at_s", Double, nullable=False),
)
