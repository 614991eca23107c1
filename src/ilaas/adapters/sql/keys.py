"""Keys, as rows. A row is never deleted: usage records and the audit trail speak of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, bindparam, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.sql.organisations import limits_of
from ilaas.adapters.sql.reach import within
from ilaas.adapters.sql.tables import KEYS
from ilaas.core.errors import Conflict, NotFound, Stale
from ilaas.core.tenancy import Key
from ilaas.core.values import RequestClass, RoutingMode
from ilaas.ports.tenancy import KeyFilter

_TOUCH = (
    update(KEYS)
    .where(
        KEYS.c.id == bindparam("key_id"),
        or_(KEYS.c.last_used_at_s.is_(None), KEYS.c.last_used_at_s < bindparam("used_at_s")),
    )
    .values(last_used_at_s=bindparam("used_at_s"))
)


async def changed_since(connection: AsyncConnection, revision: int) -> list[Key]:
    """Those that were made or changed after that revision, dead ones too."""
    rows = await connection.execute(select(KEYS).where(KEYS.c.revision > revision))
    return [_key(row) for row in rows]


async def select_keys(connection: AsyncConnection, organisation: str | None, live_at_s: float | None) -> list[Key]:
    """By organisation, project, name and creation; all of them, or those live at that time."""
    query = select(KEYS).order_by(KEYS.c.organisation, KEYS.c.project, KEYS.c.name, KEYS.c.created_at_s, KEYS.c.id)
    if organisation is not None:
        query = query.where(KEYS.c.organisation == organisation)
    if live_at_s is not None:
        query = query.where(_live_at(live_at_s))
    return [_key(row) for row in await connection.execute(query)]


async def add(connection: AsyncConnection, key: Key, revision: int, at_s: float) -> None:
    """Insert a row. Raises Conflict when its digest, id or name is taken."""
    same = or_(KEYS.c.digest == key.digest, KEYS.c.id == key.id)
    if (await connection.execute(select(KEYS.c.id).where(same))).first() is not None:
        raise Conflict("This key exists already. A secret can't be used twice, even after it was revoked.")
    holder = and_(
        KEYS.c.organisation == key.organisation,
        KEYS.c.project == key.project,
        KEYS.c.name == key.name,
        KEYS.c.replaced_by.is_(None),
        _live_at(at_s),
    )
    if (await connection.execute(select(KEYS.c.id).where(holder))).first() is not None:
        raise Conflict(
            f"The project '{key.project}' of '{key.organisation}' has a key named '{key.name}' already. "
            "Choose another name, or rotate or revoke that key.",
            param="name",
        )
    fixed = {"id": key.id, "digest": key.digest, "created_at_s": key.created_at_s, "last_used_at_s": key.last_used_at_s}
    await connection.execute(insert(KEYS).values(revision=revision, **fixed, **_values(key)))


async def change(connection: AsyncConnection, key: Key, revision: int) -> None:
    """Replace a row. Raises NotFound."""
    done = await connection.execute(update(KEYS).where(KEYS.c.id == key.id).values(revision=revision, **_values(key)))
    if done.rowcount == 0:
        raise NotFound(f"There is no key '{key.id}'.", param="key")


async def find(connection: AsyncConnection, key_id: str) -> Key | None:
    """The key of that id, dead or alive."""
    row = (await connection.execute(select(KEYS).where(KEYS.c.id == key_id))).one_or_none()
    return None if row is None else _key(row)


async def swap(connection: AsyncConnection, old: Key, new: Key, revision: int) -> None:
    """Replace the row if it is still the old one, last use aside. Raises NotFound or Stale."""
    known = await find(connection, old.id)
    if known is not None and replace(known, last_used_at_s=old.last_used_at_s) != old:
        raise Stale(f"The key '{old.id}' was changed meanwhile. Read it again.")
    await change(connection, new, revision)


async def page(connection: AsyncConnection, which: KeyFilter, after: str | None, limit: int) -> list[Key]:
    """By id."""
    query = select(KEYS).order_by(KEYS.c.id).limit(limit)
    if not which.reach.everywhere:
        query = query.where(within(which.reach, KEYS.c.organisation, KEYS.c.project))
    if which.organisation is not None:
        query = query.where(KEYS.c.organisation == which.organisation)
    if which.project is not None:
        query = query.where(KEYS.c.project == which.project)
    if which.live_at_s is not None:
        query = query.where(_live_at(which.live_at_s))
    if after is not None:
        query = query.where(KEYS.c.id > after)
    return [_key(row) for row in await connection.execute(query)]


async def touch(connection: AsyncConnection, used_at_s: Mapping[str, float]) -> None:
    """Note last uses; an older one never replaces a newer one."""
    # In one order everywhere: two gateways that touch the same keys must not lock each other out.
    values = [{"key_id": key_id, "used_at_s": used_at_s[key_id]} for key_id in sorted(used_at_s)]
    if values:
        await connection.execute(_TOUCH, values)


def _live_at(epoch_s: float) -> ColumnElement[bool]:
    """What `Key.usable_at` says, in SQL."""
    return and_(
        or_(KEYS.c.expires_at_s.is_(None), KEYS.c.expires_at_s > epoch_s),
        or_(KEYS.c.revoked_at_s.is_(None), KEYS.c.revoked_at_s > epoch_s),
    )


def _values(key: Key) -> dict[str, Any]:
    return {
        "hint": key.hint,
        "name": key.name,
        "organisation": key.organisation,
        "project": key.project,
        "priority": key.priority,
        "routing_mode": str(key.routing_mode),
        "classes": sorted(key.classes),
        "models": None if key.models is None else sorted(key.models),
        "expires_at_s": key.expires_at_s,
        "revoked_at_s": key.revoked_at_s,
        "replaced_by": key.replaced_by,
        "limits": key.limits.as_value(),
        "chat_client": key.chat_client,
        "threshold": key.threshold,
    }


def _key(row: Row[Any]) -> Key:
    models: Sequence[str] | None = row.models
    return Key(
        id=row.id,
        digest=bytes(row.digest),
        hint=row.hint,
        name=row.name,
        organisation=row.organisation,
        project=row.project,
        priority=row.priority,
        routing_mode=RoutingMode(row.routing_mode),
        classes=frozenset(map(RequestClass, row.classes)),
        models=None if models is None else frozenset(models),
        created_at_s=row.created_at_s,
        expires_at_s=row.expires_at_s,
        revoked_at_s=row.revoked_at_s,
        replaced_by=row.replaced_by,
        last_used_at_s=row.last_used_at_s,
        limits=limits_of(row.limits),
        chat_client=row.chat_client,
        threshold=row.threshold,
    )
