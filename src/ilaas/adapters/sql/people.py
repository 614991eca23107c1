"""People and their roles, as rows. A person is never deleted: the audit trail speaks of that id."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, exists, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.sql.reach import within
from ilaas.adapters.sql.tenancy_tables import PEOPLE, ROLES
from ilaas.core.errors import Conflict, NotFound, Stale
from ilaas.core.people import Person, Role, RoleGrant
from ilaas.core.rights import Reach


async def find(connection: AsyncConnection, clause: ColumnElement[bool]) -> Person | None:
    """The one person that it is true for."""
    row = (await connection.execute(select(PEOPLE).where(clause))).one_or_none()
    return None if row is None else _person(row)


async def add(connection: AsyncConnection, person: Person, grants: Iterable[RoleGrant]) -> None:
    """Insert the person with roles. Raises Conflict."""
    await _check_unique(connection, person)
    await connection.execute(insert(PEOPLE).values(id=person.id, created_at_s=person.created_at_s, **_values(person)))
    for grant in grants:
        await connection.execute(insert(ROLES).values(person_id=person.id, **_role(grant)))


async def swap(connection: AsyncConnection, old: Person, new: Person) -> None:
    """Replace the row if it is still the old one. Raises NotFound, Stale or Conflict."""
    known = await find(connection, PEOPLE.c.id == old.id)
    if known is None:
        raise NotFound(f"There is no person '{old.id}'.", param="person")
    if known != old:
        raise Stale(f"The person '{old.id}' was changed meanwhile. Read it again.")
    await _check_unique(connection, new)
    await connection.execute(update(PEOPLE).where(PEOPLE.c.id == old.id).values(**_values(new)))


async def page(connection: AsyncConnection, reach: Reach, after: str | None, limit: int) -> list[Person]:
    """By id, with a role within reach."""
    query = select(PEOPLE).order_by(PEOPLE.c.id).limit(limit)
    if not reach.everywhere:
        here = within(reach, ROLES.c.organisation, ROLES.c.project)
        query = query.where(exists().where(ROLES.c.person_id == PEOPLE.c.id, here))
    if after is not None:
        query = query.where(PEOPLE.c.id > after)
    return [_person(row) for row in await connection.execute(query)]


async def grants_of(connection: AsyncConnection, person_id: str) -> frozenset[RoleGrant]:
    """The roles of a person."""
    rows = await connection.execute(select(ROLES).where(ROLES.c.person_id == person_id))
    return frozenset(_grant(row) for row in rows)


async def page_of_grants(
    connection: AsyncConnection, reach: Reach, after: tuple[str, str, str, str] | None, limit: int
) -> list[tuple[str, RoleGrant]]:
    """By the columns of the primary key, within reach."""
    order = (ROLES.c.person_id, ROLES.c.organisation, ROLES.c.project, ROLES.c.role)
    query = select(ROLES).order_by(*order).limit(limit)
    if not reach.everywhere:
        query = query.where(within(reach, ROLES.c.organisation, ROLES.c.project))
    if after is not None:
        query = query.where(tuple_(*order) > tuple_(*after))
    return [(row.person_id, _grant(row)) for row in await connection.execute(query)]


async def grant(connection: AsyncConnection, person_id: str, given: RoleGrant) -> bool:
    """Insert a role; says whether it was new. Raises NotFound."""
    if await find(connection, PEOPLE.c.id == person_id) is None:
        raise NotFound(f"There is no person '{person_id}'.", param="person")
    if given in await grants_of(connection, person_id):
        return False
    await connection.execute(insert(ROLES).values(person_id=person_id, **_role(given)))
    return True


async def take(connection: AsyncConnection, person_id: str, taken: RoleGrant) -> bool:
    """Delete a role; says whether it was there."""
    where = [ROLES.c.person_id == person_id, *(ROLES.c[name] == value for name, value in _role(taken).items())]
    return bool((await connection.execute(delete(ROLES).where(*where))).rowcount)


async def _check_unique(connection: AsyncConnection, person: Person) -> None:
    for param, value in (("email", person.email), ("subject", person.subject)):
        taken = (PEOPLE.c.id != person.id) & (PEOPLE.c[param] == value)
        if value is not None and await find(connection, taken) is not None:
            raise Conflict(f"Another person has this {param} already.", param=param)


def _values(person: Person) -> dict[str, Any]:
    return {"name": person.name, "email": person.email, "subject": person.subject, "active": person.active}


def _person(row: Row[Any]) -> Person:
    return Person(
        id=row.id,
        name=row.name,
        email=row.email,
        subject=row.subject,
        active=row.active,
        created_at_s=row.created_at_s,
    )


def _role(given: RoleGrant) -> dict[str, str]:
    return {"organisation": given.organisation or "", "project": given.project or "", "role": str(given.role)}


def _grant(row: Row[Any]) -> RoleGrant:
    return RoleGrant(Role(row.role), row.organisation or None, row.project or None)
