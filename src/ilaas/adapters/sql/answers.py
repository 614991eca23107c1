"""Answers kept for repeated requests, as rows."""

from __future__ import annotations

from sqlalchemy import and_, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.sql.tenancy_tables import KEPT_ANSWERS as ANSWERS
from ilaas.ports.tenancy import KeptAnswer


async def claim(connection: AsyncConnection, asked: KeptAnswer, keep_s: float, claim_s: float) -> KeptAnswer | None:
    """Insert the claim, or return what is there; the old ones are deleted first."""
    old = or_(
        ANSWERS.c.at_s < asked.at_s - keep_s,
        and_(ANSWERS.c.status.is_(None), ANSWERS.c.at_s < asked.at_s - claim_s),
    )
    await connection.execute(delete(ANSWERS).where(old))
    here = and_(ANSWERS.c.caller == asked.caller, ANSWERS.c.key == asked.key)
    row = (await connection.execute(select(ANSWERS).where(here))).one_or_none()
    if row is not None:
        return KeptAnswer(
            caller=row.caller,
            key=row.key,
            request=bytes(row.request),
            at_s=row.at_s,
            status=row.status,
            body=row.body,
        )
    await connection.execute(
        insert(ANSWERS).values(
            caller=asked.caller, key=asked.key, request=asked.request, at_s=asked.at_s, status=None, body=""
        )
    )
    return None


async def keep(connection: AsyncConnection, answer: KeptAnswer) -> None:
    """Fill in the claim."""
    here = and_(ANSWERS.c.caller == answer.caller, ANSWERS.c.key == answer.key)
    await connection.execute(update(ANSWERS).where(here).values(status=answer.status, body=answer.body))


async def drop(connection: AsyncConnection, caller: str, key: str) -> None:
    """Delete the claim."""
    await connection.execute(delete(ANSWERS).where(ANSWERS.c.caller == caller, ANSWERS.c.key == key))
