"""Reads the `users` table of today's dispatcher, on PostgreSQL or MySQL. It is only read, never written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, MetaData, Table, create_engine, inspect, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchTableError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from ilaas.adapters.sql.engine import database_url
from ilaas.core.errors import ConfigError, NotFound, StoreUnavailable, Unprocessable
from ilaas.ports.dispatcher import DispatcherUser

_TABLE = "users"
_NEEDED = frozenset({"token", "name", "priority", "threshold"})
_CONNECT_TIMEOUT_S = 10


async def read_users(address: str) -> list[DispatcherUser]:
    """Every row, by id. `address` is the dispatcher's own `DATABASE_URL`, whatever driver it names.

    Raises ConfigError for another address, NotFound without the table, StoreUnavailable when it does not answer.
    """
    url = _url(address)
    with _translated():
        if url.get_backend_name() == "mysql":
            return await asyncio.to_thread(_read_mysql, url)
        engine = create_async_engine(
            url, poolclass=NullPool, hide_parameters=True, connect_args={"timeout": _CONNECT_TIMEOUT_S}
        )
        try:
            async with engine.connect() as connection:
                return await connection.run_sync(_read)
        finally:
            await engine.dispose()


def _url(address: str) -> URL:
    try:
        url = make_url(address)
    except ArgumentError:
        raise ConfigError("The address is not a URL, such as postgresql+psycopg2://USER@HOST/DATABASE.") from None
    backend = url.drivername.partition("+")[0]
    if backend in {"mysql", "mariadb"}:
        return url.set(drivername="mysql+pymysql")
    if backend in {"postgresql", "postgres"}:
        return database_url(address)
    raise ConfigError(f"The dispatcher's database is PostgreSQL or MySQL, not '{backend}': give its DATABASE_URL.")


def _read_mysql(url: URL) -> list[DispatcherUser]:
    connect_args: dict[str, Any] = {"connect_timeout": _CONNECT_TIMEOUT_S}
    if "charset" not in url.query:
        connect_args["charset"] = "utf8mb4"
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=connect_args)
    try:
        with engine.connect() as connection:
            return _read(connection)
    finally:
        engine.dispose()


def _read(connection: Connection) -> list[DispatcherUser]:
    columns = {column["name"] for column in inspect(connection).get_columns(_TABLE)}
    missing = _NEEDED - columns
    if missing:
        raise Unprocessable(
            f"The table '{_TABLE}' has no column {', '.join(sorted(missing))}: this is not the dispatcher's database."
        )
    # Its migrations added columns over time: what an older one does not have yet keeps its default.
    table = Table(_TABLE, MetaData(), autoload_with=connection)
    order = table.c.id if "id" in columns else table.c.name
    return [_user(row, at) for at, row in enumerate(connection.execute(select(table).order_by(order)).mappings(), 1)]


def _user(row: Any, at: int) -> DispatcherUser:
    return DispatcherUser(
        number=row.get("id", at),
        token=row["token"] or "",
        name=row["name"] or "",
        organization=row.get("organization"),
        email=row.get("email"),
        priority=row["priority"] or 0,
        threshold=row["threshold"],
        client_type=row.get("client_type"),
        default_routing_mode=str(row.get("default_routing_mode") or "any"),
    )


@contextmanager
def _translated() -> Iterator[None]:
    """The driver's errors in our words, without the address, which holds a password."""
    try:
        yield
    except NoSuchTableError:
        raise NotFound(f"The database has no table '{_TABLE}': this is not the dispatcher's.") from None
    except (SQLAlchemyError, OSError, TimeoutError, RuntimeError) as error:
        # RuntimeError: pymysql without what a server's kind of log-in needs
        cause = getattr(error, "orig", None) or error
        line, _, _ = str(cause).partition("\n")
        raise StoreUnavailable(
            f"The dispatcher's database can't be read: {type(cause).__name__} ({line[:200]})."
        ) from None
