"""Organisations, as rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.sql.tables import ORGANISATIONS
from ilaas.core.errors import NotFound, Stale
from ilaas.core.quota.limits import LimitName, Limits
from ilaas.core.tenancy import Agreement, Organisation, OrganisationKind


async def find(connection: AsyncConnection, name: str) -> Organisation | None:
    """The organisation of that name."""
    row = (await connection.execute(select(ORGANISATIONS).where(ORGANISATIONS.c.name == name))).one_or_none()
    return None if row is None else _organisation(row)


async def changed_since(connection: AsyncConnection, revision: int) -> list[Organisation]:
    """Those that were made or changed after that revision."""
    rows = await connection.execute(select(ORGANISATIONS).where(ORGANISATIONS.c.revision > revision))
    return [_organisation(row) for row in rows]


async def swap(connection: AsyncConnection, old: Organisation, new: Organisation, revision: int) -> None:
    """Replace the row if it is still the old one. Raises NotFound or Stale."""
    known = await find(connection, old.name)
    if known is None:
        raise NotFound(f"There is no organisation '{old.name}'.", param="organisation")
    if known != old:
        raise Stale(f"The organisation '{old.name}' was changed meanwhile. Read it again.")
    await change(connection, new, revision)


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


def limits_of(value: Mapping[str, int]) -> Limits:
    """Limits from JSON. A limit of a newer version that this one does not know is left out."""
    return Limits(**{str(name): value[name] for name in LimitName if name in value})


def _values(organisation: Organisation) -> dict[str, Any]:
    return {
        "weight": organisation.weight,
        "contributor": organisation.contributor,
        "consumer": organisation.consumer,
        "limits": organisation.limits.as_value(),
        "kind": str(organisation.kind),
        "agreement_starts_on": organisation.agreement.starts_on,
        "agreement_ends_on": organisation.agreement.ends_on,
        "agreement_url": organisation.agreement.document_url,
        "model_limits": {model: limits.as_value() for model, limits in organisation.model_limits.items()},
    }


def _organisation(row: Row[Any]) -> Organisation:
    return Organisation(
        name=row.name,
        weight=row.weight,
        contributor=row.contributor,
        consumer=row.consumer,
        limits=limits_of(row.limits),
        kind=OrganisationKind(row.kind),
        agreement=Agreement(
            starts_on=row.agreement_starts_on, ends_on=row.agreement_ends_on, document_url=row.agreement_url
        ),
        model_limits={model: limits_of(limits) for model, limits in row.model_limits.items()},
    )
