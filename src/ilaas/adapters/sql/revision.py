"""The revision, and the audit line that goes with every new one."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.sql.tables import AUDIT, META
from ilaas.ports.store import AuditLine

_CURRENT = select(META.c.revision)
_BUMP = update(META).values(revision=META.c.revision + 1).returning(META.c.revision)
_LINES = select(AUDIT.c.at_s, AUDIT.c.actor, AUDIT.c.action, AUDIT.c.subject, AUDIT.c.before, AUDIT.c.after)


async def current(connection: AsyncConnection) -> int:
    """The revision as this transaction sees it."""
    return int((await connection.execute(_CURRENT)).scalar_one())


async def bump(connection: AsyncConnection) -> int:
    """The revision of the change that follows. First in a transaction: the row's lock keeps other changes waiting."""
    return int((await connection.execute(_BUMP)).scalar_one())


async def record(connection: AsyncConnection, line: AuditLine) -> None:
    """Append to the audit trail."""
    values = {
        "at_s": line.at_s,
        "actor": line.actor,
        "action": line.action,
        "subject": line.subject,
        "before": line.before,
        "after": line.after,
    }
    await connection.execute(insert(AUDIT).values(**values))


async def lines(connection: AsyncConnection, limit: int) -> Sequence[AuditLine]:
    """The newest lines first."""
    rows = await connection.execute(_LINES.order_by(AUDIT.c.id.desc()).limit(limit))
    return [
        AuditLine(at_s=at_s, actor=actor, action=action, subject=subject, before=before, after=after)
        for at_s, actor, action, subject, before, after in rows
    ]
