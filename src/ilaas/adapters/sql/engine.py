"""Connections: how each database is opened, its transactions, and its errors in the words of `core.errors`."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext, suppress
from pathlib import Path

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from ilaas.core.errors import ConfigError, Conflict, StoreUnavailable, Unprocessable

_BEGIN = "ilaas_begin"
"""Execution option: the statement that begins a transaction in SQLite; empty is none at all."""

_CONNECT_TIMEOUT_S = 5.0
_COMMAND_TIMEOUT_S = 30.0
_BUSY_TIMEOUT_MS = 5_000


class Database:
    """An engine and the two ways to use it: `read` and `write`. Both raise only the errors of `core.errors`."""

    def __init__(self, address: str) -> None:
        """`address` as SQLAlchemy writes it; the driver may be left out. Raises ConfigError."""
        self.url = database_url(address)
        if self.is_sqlite:
            self._engine = create_async_engine(self.url, pool_size=4, hide_parameters=True)
            _prepare_sqlite(self._engine.sync_engine)
        else:
            self._engine = create_async_engine(
                self.url,
                pool_size=5,
                max_overflow=5,
                pool_timeout=_CONNECT_TIMEOUT_S,
                pool_pre_ping=True,
                hide_parameters=True,
                connect_args={"timeout": _CONNECT_TIMEOUT_S, "command_timeout": _COMMAND_TIMEOUT_S},
            )
        self._writer: AsyncEngine = self._engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        self._plain: AsyncEngine = self._engine.execution_options(**{_BEGIN: ""})
        # Writers of one process wait here in their order; SQLite lets them try again until one of them gives up.
        self._turn: AbstractAsyncContextManager[object] = asyncio.Lock() if self.is_sqlite else nullcontext()

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of ours, else PostgreSQL."""
        return self.url.get_backend_name() == "sqlite"

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection to read from, as one snapshot at most."""
        with translated():
            async with self._engine.begin() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, committed at the end of the block."""
        with translated():
            async with self._turn, self._writer.begin() as connection:
                yield connection

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[AsyncConnection]:
        """SQLite without a transaction, for what can't be done in one."""
        with translated():
            async with self._plain.begin() as connection:
                yield connection

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()


def database_url(address: str) -> URL:
    """The address with the driver that is used here. Raises ConfigError for a database of another kind."""
    try:
        url = make_url(address)
    except ArgumentError:
        raise ConfigError("The store's address is not a URL, such as postgresql://USER@HOST/DATABASE.") from None
    backend = url.drivername.partition("+")[0]
    if backend == "sqlite":
        return url.set(drivername="sqlite+aiosqlite")
    if backend in {"postgresql", "postgres"}:
        query = dict(url.query)
        if "sslmode" in query:  # libpq's word for it, as operators have it in their addresses
            query["ssl"] = query.pop("sslmode")
        return url.set(drivername="postgresql+asyncpg", query=query)
    raise ConfigError(f"The store can't be on '{backend}': use postgresql://USER@HOST/DATABASE or sqlite:///FILE.")


def make_sqlite_file(url: URL) -> None:
    """Make the file so that only its owner reads it, before SQLite makes it as the umask says. Raises ConfigError."""
    if not url.database or url.database == ":memory:":
        return
    path = Path(url.database)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            # One that is there is not opened: closing it again would drop the locks of this process's own connections
            # (POSIX), and another process that ends would take the write-ahead log away from under them.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.chmod(0o600)
    except OSError as error:
        raise ConfigError(f"{path}: the database file can't be made: {error.strerror}.") from error


@contextmanager
def translated() -> Iterator[None]:
    """The driver's errors in our words. None of them shows a value that was being written."""
    try:
        yield
    except DBAPIError as error:
        kind = str(getattr(error.orig, "sqlstate", None) or "")[:2]  # PostgreSQL's class of errors: not all are mapped
        if isinstance(error, IntegrityError) or kind == "23":
            raise Conflict("It exists already, or what it belongs to does not exist.") from error
        if isinstance(error, DataError) or kind == "22":
            raise Unprocessable("A value is out of what the database can hold.") from error
        raise StoreUnavailable(f"The database does not answer: {_reason(error.orig or error)}.") from error
    except OverflowError as error:
        raise Unprocessable("A value is out of what the database can hold.") from error
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"The database does not answer: {_reason(error)}.") from error


def _reason(error: BaseException) -> str:
    line, _, _ = str(error).partition("\n")
    return f"{type(error).__name__} ({line[:200]})" if line else type(error).__name__


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connected(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        # The driver's own transactions leave DDL and reads out of them: SQLAlchemy's `begin` event starts ours.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "handle_error")
    def failed(context: ExceptionContext) -> None:
        # The work of a task that is cancelled is still done in the driver's thread. A connection that is thrown away
        # then keeps its locks as long as anything refers to it; one that is given back is rolled back first.
        if isinstance(context.original_exception, asyncio.CancelledError):
            context.is_disconnect = False

    @event.listens_for(engine, "begin")
    def began(connection: Connection) -> None:
        # A transaction that reads first and writes later can't wait for the lock in SQLite: writers take it at once.
        statement = connection.get_execution_options().get(_BEGIN, "BEGIN")
        if statement:
            connection.exec_driver_sql(statement)
