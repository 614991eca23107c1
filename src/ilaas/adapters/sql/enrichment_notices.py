"""Webhook calls that are due, and rubbish, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import ColumnElement, and_, delete, exists, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.sql.enrichment_codec import ENRICHMENT, NOTICE
from ilaas.adapters.sql.enrichment_rows import notice_columns
from ilaas.adapters.sql.enrichment_tables import ENRICHMENT_NOTICES, ENRICHMENT_PARTS, ENRICHMENTS, OBJECT_TRASH
from ilaas.core.enrichment.changes import Notice
from ilaas.core.enrichment.values import Enrichment

_N = ENRICHMENT_NOTICES.c


async def take(connection: AsyncConnection, at_s: float, lease_s: float) -> Notice | None:
    """Lock the one due longest that nobody else has locked, and hide it for as long as the lease lasts."""
    older = ENRICHMENT_NOTICES.alias()
    is_first = ~exists().where(older.c.enrichment_id == _N.enrichment_id, older.c.number < _N.number)
    query = select(_N.body).where(_N.next_at_s <= at_s, is_first).order_by(_N.next_at_s, _N.enrichment_id).limit(1)
    body = (await connection.execute(query.with_for_update(skip_locked=True))).scalar_one_or_none()
    if body is None:
        return None
    due = NOTICE.validate_json(body)
    taken = replace(due, attempts=due.attempts + 1, next_at_s=at_s + lease_s)
    await connection.execute(update(ENRICHMENT_NOTICES).where(_here(taken)).values(notice_columns(taken)))
    return taken


async def is_any_due(connection: AsyncConnection, at_s: float) -> bool:
    """Without any lock."""
    return (await connection.execute(select(_N.number).where(_N.next_at_s <= at_s).limit(1))).first() is not None


async def is_held(connection: AsyncConnection, notice: Notice) -> bool:
    """Whether nobody took it over since, and it was not forgotten."""
    query = select(_N.number).where(_here(notice), _N.attempts == notice.attempts)
    return (await connection.execute(query.with_for_update())).scalar_one_or_none() is not None


async def drop(connection: AsyncConnection, notice: Notice) -> None:
    """It is done with."""
    await connection.execute(delete(ENRICHMENT_NOTICES).where(_here(notice)))


async def put_off(connection: AsyncConnection, notice: Notice, next_at_s: float) -> None:
    """Due again at that time."""
    later = replace(notice, next_at_s=next_at_s)
    await connection.execute(update(ENRICHMENT_NOTICES).where(_here(notice)).values(notice_columns(later)))


def _here(notice: Notice) -> ColumnElement[bool]:
    return and_(_N.enrichment_id == notice.enrichment_id, _N.number == notice.number)


async def due_for_removal(connection: AsyncConnection, at_s: float, limit: int) -> Sequence[Enrichment]:
    """Those with a date that has come."""
    results = and_(ENRICHMENTS.c.results_until_s <= at_s, ENRICHMENTS.c.job_step.is_(None))
    due = or_(ENRICHMENTS.c.media_until_s <= at_s, results)
    query = select(ENRICHMENTS.c.body).where(due, ENRICHMENTS.c.deleted.is_(False)).order_by(ENRICHMENTS.c.id)
    return [ENRICHMENT.validate_json(body) for body in (await connection.execute(query.limit(limit))).scalars()]


async def trash(connection: AsyncConnection, limit: int) -> Sequence[str]:
    """Keys of objects to delete, the oldest first."""
    return (
        (await connection.execute(select(OBJECT_TRASH.c.key).order_by(OBJECT_TRASH.c.id).limit(limit))).scalars().all()
    )


async def trash_done(connection: AsyncConnection, keys: Sequence[str]) -> None:
    """They are deleted."""
    await connection.execute(delete(OBJECT_TRASH).where(OBJECT_TRASH.c.key.in_(keys)))


async def known(connection: AsyncConnection, keys: Sequence[str]) -> frozenset[str]:
    """Which of these something refers to."""
    found: set[str] = set()
    for column in (ENRICHMENTS.c.media_key, ENRICHMENT_PARTS.c.object_key, OBJECT_TRASH.c.key):
        found.update((await connection.execute(select(column).where(column.in_(keys)))).scalars())
    return frozenset(found)
