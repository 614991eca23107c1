"""Enrichments, their versions, jobs and webhooks, and the clients that ask for them, as tables.

The `body` of a row is the whole value as JSON; the other columns are copies of what is searched by.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, ForeignKey, Index, Integer, Table, Text

from ilaas.adapters.sql.tables import METADATA

ENRICHMENTS = Table(
    "enrichments",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("client_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at_s", Double, nullable=False),
    Column("updated_at_s", Double, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("media_duration_s", Double),
    Column("media_key", Text),
    Column("media_until_s", Double),
    Column("results_until_s", Double),
    Column("fence", BigInteger, nullable=False),
    Column("job_step", Text),
    Column("job_model", Text),
    Column("job_infrastructure", Text),
    Column("job_rank_s", Double),
    Column("job_not_before_s", Double),
    Column("job_lease_until_s", Double),
    Column("job_attempts", Integer),
    Column("body", Text, nullable=False),
    Index(None, "client_id", "created_at_s"),
    Index(None, "job_step", "client_id"),
    Index(None, "media_key"),
    Index(None, "media_until_s"),
    Index(None, "results_until_s"),
)
"""The queue too: `job_step` is what an enrichment waits for, `job_lease_until_s` until when a worker has it."""

ENRICHMENT_USERS = Table(
    "enrichment_users",
    METADATA,
    Column("enrichment_id", Text, ForeignKey("enrichments.id"), primary_key=True),
    Column("end_user", Text, primary_key=True),
    Index(None, "end_user"),
)
"""Owner and contributors."""

ENRICHMENT_VERSIONS = Table(
    "enrichment_versions",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("enrichment_id", Text, ForeignKey("enrichments.id"), nullable=False),
    Column("created_at_s", Double, nullable=False),
    Column("updated_at_s", Double, nullable=False),
    Column("body", Text, nullable=False),
    Column("transcript", Text),
    Index(None, "enrichment_id", "created_at_s"),
)

ENRICHMENT_PARTS = Table(
    "enrichment_parts",
    METADATA,
    Column("enrichment_id", Text, ForeignKey("enrichments.id"), primary_key=True),
    Column("step", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("start_s", Double, nullable=False),
    Column("end_s", Double, nullable=False),
    Column("object_key", Text),
    Column("result", Text),
    Index(None, "object_key"),
)

ENRICHMENT_NOTICES = Table(
    "enrichment_notices",
    METADATA,
    Column("enrichment_id", Text, ForeignKey("enrichments.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("next_at_s", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Index(None, "next_at_s"),
)

ENRICHMENT_TURNS = Table(
    "enrichment_turns",
    METADATA,
    Column("client_id", Text, primary_key=True),
    Column("turn", BigInteger, nullable=False),
)
"""When each client was served last, counted in jobs given."""

OBJECT_TRASH = Table(
    "object_trash",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("key", Text, nullable=False),
    Index(None, "key", unique=True),
)

API_CLIENTS = Table(
    "api_clients",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("organisation", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("secret_digest", Text, nullable=False),
    Column("webhook_secret", Text),
    Column("scopes", Text, nullable=False),
    Column("created_at_s", Double, nullable=False),
    Column("last_token_at_s", Double),
    Column("last_job_at_s", Double),
    Column("policy", Text, nullable=False),
    Index(None, "organisation", "project", "name"),
)
"""`webhook_secret` is encrypted, `scopes` have a space between them, `policy` is JSON."""

SIGNING_KEYS = Table(
    "signing_keys",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("private_pem", Text, nullable=False),
    Column("created_at_s", Double, nullable=False),
    Column("retired_at_s", Double),
)
"""`private_pem` is encrypted."""
