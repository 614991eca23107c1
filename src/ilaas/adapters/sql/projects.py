"""Projects, as rows."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, and_, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.sql.organisations import limits_of
from ilaas.adapters.sql.tenancy_tables import PROJECTS
from ilaas.core.errors import NotFound, Stale
from ilaas.core.tenancy import Project


async def find(connection: AsyncConnection, organisation: str, name: str) -> Project | None:
    """The project of that name in that organisation."""
    query = select(PROJECTS).where(PROJECTS.c.organisation == organisation, PROJECTS.c.name == name)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _project(row)


async def changed_since(connection: AsyncConnection, revision: int) -> list[Project]:
    """Those that were made or changed after that revision."""
    rows = await connection.execute(select(PROJECTS).where(PROJECTS.c.revision > revision))
    return [_project(row) for row in rows]


async def add(connection: AsyncConnection, project: Project, revision: int) -> None:
    """Insert a row."""
    await connection.execute(
        insert(PROJECTS).values(
            organisation=project.organisation, name=project.name, revision=revision, **_values(project)
        )
    )


async def swap(connection: AsyncConnection, old: Project, new: Project, revision: int) -> None:
    """Replace the row if it is still the old one. Raises NotFound or Stale."""
    known = await find(connection, old.organisation, old.name)
    if known is None:
        raise NotFound(f"The organisation '{old.organisation}' has no project '{old.name}'.", param="project")
    if known != old:
        raise Stale(f"The project '{old.name}' was changed meanwhile. Read it again.")
    place = and_(PROJECTS.c.organisation == old.organisation, PROJECTS.c.name == old.name)
    await connection.execute(update(PROJECTS).where(place).values(revision=revision, **_values(new)))


def _values(project: Project) -> dict[str, Any]:
    return {
        "active": project.active,
        "models": None if project.models is None else sorted(project.models),
        "limits": project.limits.as_value(),
    }


def _project(row: Row[Any]) -> Project:
    return Project(
        organisation=row.organisation,
        name=row.name,
        active=row.active,
        models=None if row.models is None else frozenset(row.models),
        limits=limits_of(row.limits),
    )
