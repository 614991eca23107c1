"""The revision, and the audit line that goes with every new one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.sql.tables import AUDIT, META
from ilaas.core.rights import Reach
from ilaas.ports.tenancy import AuditLine, NumberedLine

_CURRENT = select(META.c.revision)
_BUMP = update(META).values(revision=META.c.revision + 1).returning(META.c.revision)
_LINES = select(AUDIT).order_by(AUDIT.c.id.desc())


async def current(connection: AsyncConnection) -> int:
    """The revision as this transaction sees it."""
    return int((await connection.execute(_CURRENT)).scalar_one())


async def bump(connection: AsyncConnection) -> int:
    """The revision of the change that follows. First in a transaction: the row's lock keeps other changes waiting."""
    return int((await connection.execute(_BUMP)).scalar_one())


async def lock(connection: AsyncConnection) -> None:
    """Keep other changes waiting, without being one."""
    await connection.execute(update(META).values(revision=META.c.revision))


async def record(connection: AsyncConnection, line: AuditLine) -> None:
    """Append to the audit trail."""
    values = {
        "at_s": line.at_s,
        "actor": line.actor,
        "action": line.action,
        "subject": line.subject,
        "before": line.before,
        "after": line.after,
        "organisation": line.organisation,
    }
    await connection.execute(insert(AUDIT).values(**values))


async def lines(connection: AsyncConnection, limit: int) -> Sequence[AuditLine]:
    """The newest lines first."""
    return [_line(row) for row in await connection.execute(_LINES.limit(limit))]


async def page(
    connection: AsyncConnection, reach: Reach, subject: str | None, before: int | None, limit: int
) -> Sequence[NumberedLine]:
    """The newest first, of changes within reach, before that number."""
    query = _LINES.limit(limit)
    if not reach.everywhere:
        query = query.where(AUDIT.c.organisation.in_(reach.organisations))
    if subject is not None:
        query = query.where(AUDIT.c.subject == subject)
    if before is not None:
        query = query.where(AUDIT.c.id < before)
    return [NumberedLine(row.id, _line(row)) for row in await connection.execute(query)]


def _line(row: Row[Any]) -> AuditLine:
    return AuditLine(
        at_s=row.at_s,
        actor=row.actor,
        action=row.action,
        subject=row.subject,
        before=row.before,
        after=row.after,
        organisation=row.organisation,
    )
