"""Personal access tokens, as rows. A row is never deleted: a secret can't be used twice."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.sql.tenancy_tables import PERSON_TOKENS
from ilaas.core.errors import NotFound
from ilaas.core.people import PersonToken


async def where(connection: AsyncConnection, clause: ColumnElement[bool]) -> list[PersonToken]:
    """Those that it is true for, by creation."""
    query = select(PERSON_TOKENS).where(clause).order_by(PERSON_TOKENS.c.created_at_s, PERSON_TOKENS.c.id)
    return [_token(row) for row in await connection.execute(query)]


async def add(connection: AsyncConnection, token: PersonToken) -> None:
    """Insert a row."""
    await connection.execute(
        insert(PERSON_TOKENS).values(
            id=token.id,
            digest=token.digest,
            hint=token.hint,
            name=token.name,
            person_id=token.person_id,
            created_at_s=token.created_at_s,
            expires_at_s=token.expires_at_s,
            revoked_at_s=token.revoked_at_s,
            last_used_at_s=token.last_used_at_s,
        )
    )


async def revoke(connection: AsyncConnection, token_id: str, at_s: float) -> None:
    """Set its end. Raises NotFound."""
    found = await where(connection, PERSON_TOKENS.c.id == token_id)
    if not found:
        raise NotFound(f"There is no token '{token_id}'.", param="token")
    if found[0].revoked_at_s is None:
        await connection.execute(update(PERSON_TOKENS).where(PERSON_TOKENS.c.id == token_id).values(revoked_at_s=at_s))


async def touch(connection: AsyncConnection, token_id: str, at_s: float) -> None:
    """Note its last use."""
    await connection.execute(update(PERSON_TOKENS).where(PERSON_TOKENS.c.id == token_id).values(last_used_at_s=at_s))


def _token(row: Row[Any]) -> PersonToken:
    return PersonToken(
        id=row.id,
        digest=bytes(row.digest),
        hint=row.hint,
        name=row.name,
        person_id=row.person_id,
        created_at_s=row.created_at_s,
        expires_at_s=row.expires_at_s,
        revoked_at_s=row.revoked_at_s,
        last_used_at_s=row.last_used_at_s,
    )
