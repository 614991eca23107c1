"""The tables. `migrations` makes them; a test holds the two together."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

META = Table(
    "meta",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
)
"""One row, of id 1. Every change locks it first: changes are serialised, and revisions are seen in their order."""

ORGANISATIONS = Table(
    "organisations",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("weight", Double, nullable=False),
    Column("contributor", Boolean, nullable=False),
    Column("consumer", Boolean, nullable=False),
    Column("limits", JSON, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("agreement_starts_on", Date),
    Column("agreement_ends_on", Date),
    Column("agreement_url", Text),
    Column("model_limits", JSON, nullable=False),
)

KEYS = Table(
    "keys",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("hint", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("organisation", Text, ForeignKey("organisations.name"), nullable=False),
    Column("project", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("routing_mode", Text, nullable=False),
    Column("classes", JSON, nullable=False),
    Column("models", JSON(none_as_null=True)),
    Column("created_at_s", Double, nullable=False),
    Column("expires_at_s", Double),
    Column("revoked_at_s", Double),
    Column("replaced_by", Text),
    Column("last_used_at_s", Double),
    Column("limits", JSON, nullable=False),
    Column("chat_client", Boolean, nullable=False),
    Column("threshold", Integer),
    Column("revision", BigInteger, nullable=False),
    Index(None, "organisation", "project", "name"),
    Index(None, "revision"),
)

SERVERS = Table(
    "servers",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("model", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("served_name", Text, nullable=False),
    Column("engine", Text, nullable=False),
    Column("token_encrypted", Text),
    Column("max_parallel_requests", Integer),
    Column("owner_reserved", Integer, nullable=False),
    Column("context_window", Integer),
    Column("quantisation", Text),
    Column("spot", Boolean, nullable=False),
)

SERVER_MARKS = Table(
    "server_marks",
    METADATA,
    Column("server_id", Text, primary_key=True),
    Column("draining", Boolean, nullable=False),
)
"""Marks apart from the servers, so that those of the configuration file can be told to drain too."""

USAGE_RECORDS = Table(
    "usage_records",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("finished_at_ms", BigInteger, nullable=False),
    Column("organisation", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("server", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("request_class", Text, nullable=False),
    Column("routing_mode", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("streamed", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("audio_ms", BigInteger, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("queue_ms", BigInteger, nullable=False),
    Column("ttft_ms", BigInteger, nullable=False),
    Column("duration_ms", BigInteger, nullable=False),
    Column("price_micro_eur", BigInteger, nullable=False),
    Column("energy_mj", BigInteger, nullable=False),
    Column("energy_low_mj", BigInteger, nullable=False),
    Column("energy_high_mj", BigInteger, nullable=False),
    Column("co2e_ug", BigInteger, nullable=False),
    Column("embodied_co2e_ug", BigInteger, nullable=False),
    Column("impact_method", Text, nullable=False),
    Column("energy_measured", Boolean, nullable=False),
    Index(None, "finished_at_ms"),
)
"""The fields of `core.usage.UsageRecord`, by name."""

AUDIT = Table(
    "audit",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at_s", Double, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("before", Text),
    Column("after", Text),
    Column("organisation", Text),
    Index(None, "organisation"),
    Index(None, "subject"),
)
"""Append-only: triggers refuse to change or delete a line."""
