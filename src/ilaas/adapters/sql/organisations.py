"""Organisations, as rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.sql.tables import ORGANISATIONS
from ilaas.core.quota.limits import LimitName, Limits
from ilaas.core.tenancy import Organisation


async def find(connection: AsyncConnection, name: str) -> Organisation | None:
    """The organisation of that name."""
    row = (await connection.execute(select(ORGANISATIONS).where(ORGANISATIONS.c.name == name))).one_or_none()
    return None if row is None else _organisation(row)


async def changed_since(connection: AsyncConnection, revision: int) -> list[Organisation]:
    """Those that were made or changed after that revision."""
    rows = await connection.execute(select(ORGANISATIONS).where(ORGANISATIONS.c.revision > revision))
    return [_organisation(row) for row in rows]


async def add(connection: AsyncConnection, organisation: Organisation, revision: int) -> None:
    """Insert a row."""
    await connection.execute(
        insert(ORGANISATIONS).values(name=organisation.name, revision=revision, **_values(organisation))
    )


async def change(connection: AsyncConnection, organisation: Organisation, revision: int) -> None:
    """Replace a row."""
    await connection.execute(
        update(ORGANISATIONS)
        .where(ORGANISATIONS.c.name == organisation.name)
        .values(revision=revision, **_values(organisation))
    )


def limits_value(limits: Limits) -> dict[str, int]:
    """Limits as JSON: only those that are set."""
    return {str(name): value for name in LimitName if (value := getattr(limits, name)) is not None}


def limits_of(value: Mapping[str, int]) -> Limits:
    """Limits from JSON. A limit of a newer version that this one does not know is left out."""
    return Limits(**{str(name): value[name] for name in LimitName if name in value})


def _values(organisation: Organisation) -> dict[str, Any]:
    return {
        "weight": organisation.weight,
        "contributor": organisation.contributor,
        "consumer": organisation.consumer,
        "limits": limits_value(organisation.limits),
    }


def _organisation(row: Row[Any]) -> Organisation:
    return Organisation(
        name=row.name,
        weight=row.weight,
        contributor=row.contributor,
        consumer=row.consumer,
        limits=limits_of(row.limits),
    )
