"""Enrichments and what belongs to them, as rows. Whoever writes any of it holds the lock of the enrichment's row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.sql.enrichment_codec import (
    ENRICHMENT,
    NOTICE,
    enrichment_columns,
    to_text,
    version_columns,
    version_of,
)
from ilaas.adapters.sql.enrichment_tables import (
    ENRICHMENT_NOTICES,
    ENRICHMENT_PARTS,
    ENRICHMENT_USERS,
    ENRICHMENT_VERSIONS,
    ENRICHMENTS,
    OBJECT_TRASH,
)
from ilaas.core.enrichment.changes import Change, Notice
from ilaas.core.enrichment.values import Enrichment, Version
from ilaas.core.errors import NotFound
from ilaas.ports.enrichment import ListQuery, Page, Sort

_LARGEST = 2**62
"""Beyond what any list has, and within what the databases count."""


async def find(connection: AsyncConnection, enrichment_id: str, *, lock: bool = False) -> Enrichment:
    """Raises NotFound."""
    query = select(ENRICHMENTS.c.body).where(ENRICHMENTS.c.id == enrichment_id)
    body = (await connection.execute(query.with_for_update() if lock else query)).scalar_one_or_none()
    if body is None:
        raise NotFound(f"No enrichment with ID '{enrichment_id}' has been found", param="id")
    return ENRICHMENT.validate_json(body)


async def find_version(connection: AsyncConnection, enrichment_id: str, version_id: str) -> Version:
    """With its transcript. Raises NotFound."""
    here = and_(ENRICHMENT_VERSIONS.c.id == version_id, ENRICHMENT_VERSIONS.c.enrichment_id == enrichment_id)
    row = (await connection.execute(select(ENRICHMENT_VERSIONS).where(here))).one_or_none()
    if row is None:
        raise NotFound(f"The enrichment has no version '{version_id}'.", param="versionId")
    return version_of(row, with_transcript=True)


async def version_of_job(connection: AsyncConnection, enrichment: Enrichment) -> Version | None:
    """The version that the current step works on."""
    if enrichment.job is None or enrichment.job.version_id is None:
        return None
    return await find_version(connection, enrichment.id, enrichment.job.version_id)


async def page(
    connection: AsyncConnection, client_id: str, query: ListQuery, end_user_identifier: str | None
) -> Page[Enrichment]:
    """A client's own that are not deleted."""
    where: list[ColumnElement[bool]] = [ENRICHMENTS.c.client_id == client_id, ENRICHMENTS.c.deleted.is_(False)]
    if end_user_identifier is not None:
        where.append(
            exists().where(
                ENRICHMENT_USERS.c.enrichment_id == ENRICHMENTS.c.id,
                ENRICHMENT_USERS.c.end_user == end_user_identifier,
            )
        )
    rows, total = await _paged(connection, ENRICHMENTS, where, query, [ENRICHMENTS.c.body])
    return Page([ENRICHMENT.validate_json(row.body) for row in rows], total)


async def versions(
    connection: AsyncConnection, enrichment_id: str, query: ListQuery, *, with_transcript: bool
) -> Page[Version]:
    """A page of its versions."""
    columns = [ENRICHMENT_VERSIONS.c.body, *([ENRICHMENT_VERSIONS.c.transcript] if with_transcript else [])]
    rows, total = await _paged(
        connection, ENRICHMENT_VERSIONS, [ENRICHMENT_VERSIONS.c.enrichment_id == enrichment_id], query, columns
    )
    return Page([version_of(row, with_transcript=with_transcript) for row in rows], total)


async def _paged(
    connection: AsyncConnection,
    table: Any,
    where: Sequence[ColumnElement[bool]],
    query: ListQuery,
    columns: Sequence[Any],
) -> tuple[Sequence[Any], int]:
    sorts = {Sort.CREATED_AT: table.c.created_at_s, Sort.UPDATED_AT: table.c.updated_at_s}
    by = [table.c.status] if query.sort is Sort.STATUS and "status" in table.c else [sorts.get(query.sort)]
    order = [*(column for column in by if column is not None), table.c.created_at_s, table.c.id]
    ordered = [column.desc() if query.descending else column.asc() for column in order]
    size, offset = min(query.size, _LARGEST), min((query.page - 1) * query.size, _LARGEST)
    found = select(*columns).where(*where).order_by(*ordered).limit(size).offset(offset)
    total = (await connection.execute(select(func.count()).select_from(table).where(*where))).scalar_one()
    return (await connection.execute(found)).all(), int(total)


async def write(connection: AsyncConnection, change: Change, before: Enrichment | None) -> None:
    """All of a change. `before` is None for a new one."""
    after = change.enrichment
    if before is None:
        await connection.execute(insert(ENRICHMENTS).values(enrichment_columns(after)))
    elif after != before:
        columns = enrichment_columns(after)
        await connection.execute(update(ENRICHMENTS).where(ENRICHMENTS.c.id == after.id).values(columns))
    await _write_users(connection, after, before)
    await _write_versions(connection, change)
    if change.drops_parts:
        mine = ENRICHMENT_PARTS.c.enrichment_id == after.id
        cut = await connection.execute(select(ENRICHMENT_PARTS.c.object_key).where(mine))
        await put_to_trash(connection, [key for key in cut.scalars() if key is not None])
        await connection.execute(delete(ENRICHMENT_PARTS).where(mine))
    if change.drops_notices:
        await connection.execute(delete(ENRICHMENT_NOTICES).where(ENRICHMENT_NOTICES.c.enrichment_id == after.id))
    for notice in change.notices:
        await connection.execute(insert(ENRICHMENT_NOTICES).values(notice_columns(notice)))
    await put_to_trash(connection, change.trash)


def notice_columns(notice: Notice) -> dict[str, Any]:
    """The row of a notice."""
    return {
        "enrichment_id": notice.enrichment_id,
        "number": notice.number,
        "next_at_s": notice.next_at_s,
        "attempts": notice.attempts,
        "body": to_text(NOTICE, notice),
    }


async def put_to_trash(connection: AsyncConnection, keys: Iterable[str]) -> None:
    """Note objects to delete."""
    for key in dict.fromkeys(keys):
        await connection.execute(delete(OBJECT_TRASH).where(OBJECT_TRASH.c.key == key))
        await connection.execute(insert(OBJECT_TRASH).values(key=key))


async def _write_users(connection: AsyncConnection, after: Enrichment, before: Enrichment | None) -> None:
    users = _users(after)
    if before is not None and users == _users(before):
        return
    if before is not None:
        await connection.execute(delete(ENRICHMENT_USERS).where(ENRICHMENT_USERS.c.enrichment_id == after.id))
    if users:
        await connection.execute(
            insert(ENRICHMENT_USERS), [{"enrichment_id": after.id, "end_user": user} for user in sorted(users)]
        )


def _users(enrichment: Enrichment) -> frozenset[str]:
    return frozenset(filter(None, (enrichment.end_user_identifier, *(enrichment.contributors or ()))))


async def _write_versions(connection: AsyncConnection, change: Change) -> None:
    mine = ENRICHMENT_VERSIONS.c.enrichment_id == change.enrichment.id
    if change.dropped_versions is None:
        await connection.execute(delete(ENRICHMENT_VERSIONS).where(mine))
    elif change.dropped_versions:
        dropped = ENRICHMENT_VERSIONS.c.id.in_(change.dropped_versions)
        await connection.execute(delete(ENRICHMENT_VERSIONS).where(mine, dropped))
    for version in change.versions:
        columns = version_columns(version)
        here = and_(mine, ENRICHMENT_VERSIONS.c.id == version.id)
        written = await connection.execute(update(ENRICHMENT_VERSIONS).where(here).values(columns))
        if written.rowcount == 0:
            await connection.execute(insert(ENRICHMENT_VERSIONS).values(columns))
