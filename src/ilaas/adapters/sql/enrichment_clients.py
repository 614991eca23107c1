"""OAuth clients and signing keys, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.secret import Secret
from ilaas.adapters.sql.enrichment_codec import POLICY, to_text
from ilaas.adapters.sql.enrichment_tables import API_CLIENTS, SIGNING_KEYS
from ilaas.core.enrichment.clients import ApiClient, Scope, SigningKey
from ilaas.core.errors import Conflict, NotFound

_C = API_CLIENTS.c


async def find(connection: AsyncConnection, client_id: str, secret: Secret) -> ApiClient:
    """Raises NotFound."""
    row = (await connection.execute(select(API_CLIENTS).where(_C.id == client_id))).one_or_none()
    if row is None:
        raise NotFound(f"There is no speech API client '{client_id}'.", param="client_id")
    return _client(row, secret)


async def listed(
    connection: AsyncConnection, organisation: str | None, project: str | None, secret: Secret
) -> Sequence[ApiClient]:
    """By organisation, project, name."""
    query = select(API_CLIENTS).order_by(_C.organisation, _C.project, _C.name, _C.id)
    if organisation is not None:
        query = query.where(_C.organisation == organisation)
    if project is not None:
        query = query.where(_C.project == project)
    return [_client(row, secret) for row in await connection.execute(query)]


async def add(connection: AsyncConnection, client: ApiClient, secret: Secret) -> None:
    """Raises Conflict."""
    await _check_name(connection, client)
    await connection.execute(insert(API_CLIENTS).values(_columns(client, secret)))


async def replace(connection: AsyncConnection, client: ApiClient, secret: Secret) -> None:
    """Raises Conflict."""
    await _check_name(connection, client)
    await connection.execute(update(API_CLIENTS).where(_C.id == client.id).values(_columns(client, secret)))


async def touch(connection: AsyncConnection, client_id: str, token_at_s: float | None, job_at_s: float | None) -> None:
    """Note last uses; never backwards."""
    for column, at_s in ((_C.last_token_at_s, token_at_s), (_C.last_job_at_s, job_at_s)):
        if at_s is not None:
            is_older = or_(column.is_(None), column < at_s)
            query = update(API_CLIENTS).where(_C.id == client_id, is_older)
            await connection.execute(query.values({column.name: at_s}))


async def _check_name(connection: AsyncConnection, client: ApiClient) -> None:
    same = select(func.count()).where(
        _C.organisation == client.organisation,
        _C.project == client.project,
        _C.name == client.name,
        _C.active.is_(True),
        _C.id != client.id,
    )
    if client.active and (await connection.execute(same)).scalar_one():
        raise Conflict(f"The project has an active speech API client named '{client.name}' already.", param="name")


def _columns(client: ApiClient, secret: Secret) -> dict[str, Any]:
    return {
        "id": client.id,
        "organisation": client.organisation,
        "project": client.project,
        "name": client.name,
        "active": client.active,
        "secret_digest": client.secret_digest,
        "webhook_secret": None if client.webhook_secret is None else secret.encrypt(client.webhook_secret),
        "scopes": " ".join(sorted(client.scopes)),
        "created_at_s": client.created_at_s,
        "last_token_at_s": client.last_token_at_s,
        "last_job_at_s": client.last_job_at_s,
        "policy": to_text(POLICY, client.policy),
    }


def _client(row: Row[Any], secret: Secret) -> ApiClient:
    return ApiClient(
        id=row.id,
        name=row.name,
        organisation=row.organisation,
        project=row.project,
        secret_digest=row.secret_digest,
        scopes=frozenset(Scope(scope) for scope in row.scopes.split()),
        active=row.active,
        created_at_s=row.created_at_s,
        last_token_at_s=row.last_token_at_s,
        last_job_at_s=row.last_job_at_s,
        webhook_secret=None if row.webhook_secret is None else secret.decrypt(row.webhook_secret),
        policy=POLICY.validate_json(row.policy),
    )


async def signing_keys(connection: AsyncConnection, secret: Secret) -> Sequence[SigningKey]:
    """The newest first."""
    query = select(SIGNING_KEYS).order_by(SIGNING_KEYS.c.created_at_s.desc(), SIGNING_KEYS.c.id)
    return [
        SigningKey(
            id=row.id,
            private_pem=secret.decrypt(row.private_pem),
            created_at_s=row.created_at_s,
            retired_at_s=row.retired_at_s,
        )
        for row in await connection.execute(query)
    ]


async def add_signing_key(connection: AsyncConnection, key: SigningKey, unless_after_s: float, secret: Secret) -> bool:
    """Says whether it did."""
    newer = select(func.count()).where(SIGNING_KEYS.c.created_at_s > unless_after_s)
    if (await connection.execute(newer)).scalar_one():
        return False
    still = SIGNING_KEYS.c.retired_at_s.is_(None)
    await connection.execute(update(SIGNING_KEYS).where(still).values(retired_at_s=key.created_at_s))
    await connection.execute(
        insert(SIGNING_KEYS).values(
            id=key.id,
            private_pem=secret.encrypt(key.private_pem),
            created_at_s=key.created_at_s,
            retired_at_s=key.retired_at_s,
        )
    )
    return True


async def drop_signing_keys(connection: AsyncConnection, retired_before_s: float) -> int:
    """Returns how many."""
    dropped = await connection.execute(delete(SIGNING_KEYS).where(SIGNING_KEYS.c.retired_at_s < retired_before_s))
    return dropped.rowcount
