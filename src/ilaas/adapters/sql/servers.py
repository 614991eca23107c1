"""Servers that were added at run time, and the drain marks of all servers, as rows."""

from __future__ import annotations

from sqlalchemy import delete, insert, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.secret import Secret
from ilaas.adapters.sql.tables import SERVER_MARKS, SERVERS
from ilaas.core.catalogue import ServerSpec
from ilaas.core.errors import Conflict, NotFound
from ilaas.core.values import Engine
from ilaas.ports.store import StoredServer


async def all_servers(connection: AsyncConnection, secret: Secret) -> list[StoredServer]:
    """By model and id, with their marks. Raises ConfigError when a token can't be decrypted."""
    marked = await draining(connection)
    rows = await connection.execute(select(SERVERS).order_by(SERVERS.c.model, SERVERS.c.id))
    return [
        StoredServer(
            model=row.model,
            spec=ServerSpec(
                id=row.id,
                url=row.url,
                site=row.site,
                owner=row.owner,
                served_name=row.served_name,
                engine=Engine(row.engine),
                token=None if row.token_encrypted is None else secret.decrypt(row.token_encrypted),
                max_parallel_requests=row.max_parallel_requests,
                owner_reserved=row.owner_reserved,
                context_window=row.context_window,
                quantisation=row.quantisation,
                spot=row.spot,
                draining=row.id in marked,
                from_file=False,
            ),
        )
        for row in rows
    ]


async def add(connection: AsyncConnection, server: StoredServer, secret: Secret) -> None:
    """Insert a row. Raises Conflict when the id is taken."""
    spec = server.spec
    if (await connection.execute(select(SERVERS.c.id).where(SERVERS.c.id == spec.id))).first() is not None:
        raise Conflict(f"There is a server '{spec.id}' already. Choose another id, or remove that one.", param="id")
    await connection.execute(
        insert(SERVERS).values(
            id=spec.id,
            model=server.model,
            url=spec.url,
            site=spec.site,
            owner=spec.owner,
            served_name=spec.served_name,
            engine=str(spec.engine),
            token_encrypted=None if spec.token is None else secret.encrypt(spec.token),
            max_parallel_requests=spec.max_parallel_requests,
            owner_reserved=spec.owner_reserved,
            context_window=spec.context_window,
            quantisation=spec.quantisation,
            spot=spec.spot,
        )
    )
    if spec.draining:
        await mark(connection, spec.id, draining_now=True)


async def remove(connection: AsyncConnection, server_id: str) -> None:
    """Delete the row and its mark. Raises NotFound."""
    done = await connection.execute(delete(SERVERS).where(SERVERS.c.id == server_id))
    if done.rowcount == 0:
        raise NotFound(f"No server '{server_id}' was added at run time.", param="id")
    await mark(connection, server_id, draining_now=False)


async def draining(connection: AsyncConnection) -> frozenset[str]:
    """Ids of the servers that are told to drain."""
    return frozenset(
        (await connection.execute(select(SERVER_MARKS.c.server_id).where(SERVER_MARKS.c.draining == true()))).scalars()
    )


async def mark(connection: AsyncConnection, server_id: str, *, draining_now: bool) -> None:
    """Set or lift the drain mark."""
    await connection.execute(delete(SERVER_MARKS).where(SERVER_MARKS.c.server_id == server_id))
    if draining_now:
        await connection.execute(insert(SERVER_MARKS).values(server_id=server_id, draining=True))
