"""The tables of projects, people, roles, tokens and kept answers."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
)

from ilaas.adapters.sql.tables import METADATA

PROJECTS = Table(
    "projects",
    METADATA,
    Column("organisation", Text, ForeignKey("organisations.name"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("active", Boolean, nullable=False),
    Column("models", JSON(none_as_null=True)),
    Column("limits", JSON, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index(None, "revision"),
)

PEOPLE = Table(
    "people",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("email", Text),
    Column("subject", Text),
    Column("active", Boolean, nullable=False),
    Column("created_at_s", Double, nullable=False),
    UniqueConstraint("email"),
    UniqueConstraint("subject"),
)

ROLES = Table(
    "roles",
    METADATA,
    Column("person_id", Text, ForeignKey("people.id"), primary_key=True),
    Column("organisation", Text, primary_key=True),
    Column("project", Text, primary_key=True),
    Column("role", Text, primary_key=True),
    Index(None, "organisation", "project"),
)
"""Empty text is no organisation, no project: parts of a primary key can't be missing."""

PERSON_TOKENS = Table(
    "person_tokens",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("hint", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("person_id", Text, ForeignKey("people.id"), nullable=False),
    Column("created_at_s", Double, nullable=False),
    Column("expires_at_s", Double),
    Column("revoked_at_s", Double),
    Column("last_used_at_s", Double),
    Index(None, "person_id"),
)

KEPT_ANSWERS = Table(
    "kept_answers",
    METADATA,
    Column("caller", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request", LargeBinary, nullable=False),
    Column("at_s", Double, nullable=False),
    Column("status", Integer),
    Column("body", Text, nullable=False),
    Index(None, "at_s"),
)
